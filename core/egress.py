"""All HTTP that leaves this service: to public addresses, or to networks that a setting allows.

A name is resolved once, and the connection goes to the address that was looked at: a name that
answers differently the second time changes nothing. Proxies of the environment are not used.
"""

import ipaddress
import logging
import socket
import sys
import time
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from core.errors import AddressNotAllowed, InvalidArgument

logger = logging.getLogger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_LENGTH = 2048
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

FULL_STOPS = str.maketrans("\u3002\uff0e\uff61", "...")
"""What names in other scripts have between their parts."""
LOOK_SECONDS = 2.0
"""For a first look at a name. One that takes longer is looked at again when it is used."""

_RESOLVERS = ThreadPoolExecutor(4, thread_name_prefix="resolve")
"""The resolver of the machine knows no time limit; whoever waits for it has one."""
_LOOKERS = ThreadPoolExecutor(2, thread_name_prefix="look")
"""For names that nothing is sent to yet: slow ones hold up no webhook."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered: its status, and the beginning of its body."""

    status: int
    body: bytes


class Egress:
    """Clients for the outside. Hosts that the operator has named are trusted wherever they are."""

    def __init__(self, allowed: Sequence[Network] = (), *, trusted_hosts: Collection[str] = ()):
        self._allowed = tuple(allowed)
        self._trusted = frozenset(trusted_hosts)

    def client(self, *, seconds: float, **options: Any) -> httpx.Client:
        """A client whose every connection is checked; `seconds` is for each wait of it."""
        return httpx.Client(transport=_transport(self), timeout=seconds, **options)

    def post(
        self, url: str, content: bytes, headers: Mapping[str, str], *, seconds: float, limit: int
    ) -> Reply:
        """Send a body, and read up to `limit` bytes of the answer, all within `seconds`.

        Redirects are answers like others. Errors are AddressNotAllowed and httpx.HTTPError.
        """
        self.check_url(url)
        transport = _transport(
            self, until=time.monotonic() + seconds, is_plain=url.startswith("http:")
        )
        with (
            httpx.Client(transport=transport, timeout=seconds) as client,
            client.stream("POST", url, content=content, headers=headers) as response,
        ):
            body = b""
            for chunk in response.iter_raw(limit):
                body = (body + chunk)[:limit]
                if len(body) >= limit:
                    break
            return Reply(response.status_code, body)

    def check_url(self, url: str) -> None:
        """Refuse what can be refused without asking anybody.

        InvalidArgument for what is no such URL, AddressNotAllowed for an address in it, however
        it is spelled.
        """
        try:
            # Both readers have to take it: this one looks at it, the other one uses it.
            parts, used = urlsplit(url), httpx.URL(url)
            host, _ = parts.hostname, parts.port
            names = {host or "", used.host, used.raw_host.decode("ascii")}
        except (ValueError, httpx.InvalidURL) as error:
            raise InvalidArgument(f"{url[:200]!r} is not a URL.", param="url") from error
        used_host = used.raw_host.decode("ascii").strip("[]")
        if host and host.isascii() and used_host != host:
            raise InvalidArgument(f"{host[:200]!r} is no name of a host.", param="url")
        is_plain_text = len(url) <= MAX_URL_LENGTH and not any(map(str.isspace, url))
        is_http = parts.scheme in ("https", "http")
        if not (is_http and host and used.host and is_plain_text):
            raise InvalidArgument(
                f"Expected a URL like https://host/path of at most {MAX_URL_LENGTH:,} characters.",
                param="url",
            )
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise InvalidArgument("A URL with a password or a fragment is not used.", param="url")
        for name in names:
            address = spelled_address(name)
            if address is not None:
                self.check_address(address, host, is_plain=parts.scheme == "http")

    def check_destination(self, url: str, *, seconds: float = LOOK_SECONDS) -> None:
        """Refuse what `check_url` does, and a name that leads to where nothing may be sent.

        A name that is not known now is let pass: receivers are often named before they are there,
        and whoever connects looks again.
        """
        self.check_url(url)
        used = httpx.URL(url)
        host, port = used.raw_host.decode("ascii"), used.port or 443
        with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
            is_plain = used.scheme == "http"
            self.resolve(host, port, timeout=seconds, is_plain=is_plain, resolvers=_LOOKERS)

    def resolve(
        self,
        host: str,
        port: int,
        *,
        timeout: float | None,
        is_plain: bool,
        resolvers: ThreadPoolExecutor = _RESOLVERS,
    ) -> list[Address]:
        """The addresses of a host, all of which are looked at: one that is refused refuses it."""
        question = resolvers.submit(
            socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
        try:
            answers = question.result(timeout)
        except TimeoutError as error:
            question.cancel()
            raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        found = [ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]
        for address in found:
            self.check_address(address, host, is_plain=is_plain)
        return list(dict.fromkeys(found))

    def check_address(self, address: Address, host: str, *, is_plain: bool) -> None:
        """AddressNotAllowed for an address that is neither public nor allowed."""
        if host in self._trusted or _is_in(address, self._allowed):
            return
        if not is_public(address):
            # Whoever asks is not told what the names of a private network stand for.
            logger.info("%r has the address %s, which is not public", host, address)
            raise AddressNotAllowed(
                f"{host} is not, or does not lead to, a public address. The operator can allow its "
                "network by EGRESS_ALLOW.",
                param="url",
            )
        if is_plain:
            raise AddressNotAllowed(f"Use https for {host}, which is public.", param="url")


def guard_process(egress: Egress) -> None:
    """Have this process, for good, connect to allowed addresses only, whichever library it uses."""

    def look(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(args[1], tuple):
            host = str(args[1][0])
            try:
                address = ipaddress.ip_address(host.partition("%")[0])
            except ValueError as error:
                raise AddressNotAllowed(f"{host} was not resolved before it was used.") from error
            egress.check_address(address, host, is_plain=False)

    sys.addaudithook(look)


def addresses_of(urls: Iterable[str]) -> list[Network]:
    """The addresses that the hosts of these URLs have now; none for a host that nobody knows."""
    found: list[Network] = []
    for url in urls:
        try:
            answers = socket.getaddrinfo(urlsplit(url).hostname, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            continue
        names = (str(answer[4][0]).partition("%")[0] for answer in answers)
        found.extend(ipaddress.ip_network(name) for name in names)
    return found


def spelled_address(host: str) -> Address | None:
    """The address that a host is, in any spelling that a resolver takes; None for a name."""
    text = unicodedata.normalize("NFKC", host.translate(FULL_STOPS)).lower()
    text = text.strip("[]").partition("%")[0].rstrip(".")
    if text == "localhost" or text.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    try:
        # Fewer than four parts, octal and hexadecimal ones: `127.1`, `017700000001`.
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except (OSError, UnicodeEncodeError):
        return None


def is_public(address: Address) -> bool:
    """Whether anybody on the Internet may have this address; addresses in addresses count, too."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any(item in network for item in (address, mapped) if item for network in networks)


def _transport(
    egress: Egress, *, until: float | None = None, is_plain: bool = False
) -> httpx.HTTPTransport:
    transport = httpx.HTTPTransport(trust_env=False)
    # httpx has no parameter for it, and only here a name becomes an address.
    transport._pool = httpcore.ConnectionPool(
        ssl_context=httpx.create_ssl_context(trust_env=False),
        network_backend=_Guard(egress, until, is_plain),
    )
    return transport


class _Guard(httpcore.NetworkBackend):
    """Connects to addresses that were looked at, and ends what takes too long."""

    def __init__(self, egress: Egress, until: float | None, is_plain: bool):
        self._egress = egress
        self._until = until
        self._is_plain = is_plain
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of the host that answers."""
        addresses = self._egress.resolve(
            host, port, timeout=_left(timeout, self._until), is_plain=self._is_plain
        )
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                stream = self._backend.connect_tcp(
                    str(address), port, _left(timeout, self._until), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Bounded(stream, self._until)
        raise failure


class _Bounded(httpcore.NetworkStream):
    """A connection that ends at a time, however slowly the other side goes on."""

    def __init__(self, stream: httpcore.NetworkStream, until: float | None):
        self._stream = stream
        self._until = until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what is there."""
        return self._stream.read(max_bytes, _left(timeout, self._until))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write everything."""
        self._stream.write(buffer, _left(timeout, self._until))

    def close(self) -> None:
        """Close."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """Go on with TLS; the certificate is that of the name, not of the address."""
        left = _left(timeout, self._until)
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, left), self._until)

    def get_extra_info(self, info: str) -> Any:
        """What the connection knows of itself."""
        return self._stream.get_extra_info(info)


def _left(timeout: float | None, until: float | None) -> float | None:
    if until is None:
        return timeout
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time for this request is over")
    return left if timeout is None else min(timeout, left)
