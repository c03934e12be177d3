"""What leaves the service goes to public addresses, within its time and its size."""

import ipaddress
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from core.egress import Egress, is_public
from core.errors import AddressNotAllowed, InvalidArgument
from tests.servers.receiver import Receiver, receiving

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server on loopback."""
    with receiving() as receiver:
        yield receiver


def _post(egress: Egress, url: str, *, seconds: float = 10, limit: int = 1000) -> int:
    return egress.post(url, b"{}", {}, seconds=seconds, limit=limit).status


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2001:0:7f00:1::", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "2130706433", "0x7f.1"]
)
def test_no_spelling_of_loopback_is_reached(receiver: Receiver, host: str) -> None:
    url = receiver.url.replace("127.0.0.1", host)

    with pytest.raises((AddressNotAllowed, httpx.ConnectError)):
        _post(Egress(), url)
    assert receiver.seen == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_network_that_is_allowed_is_reached(receiver: Receiver, host: str) -> None:
    allowed = (*LOOPBACK, ipaddress.ip_network("::1/128"))

    assert _post(Egress(allowed), receiver.url.replace("127.0.0.1", host)) == 200


def test_a_host_that_the_operator_named_is_reached(receiver: Receiver) -> None:
    with Egress(trusted_hosts=["127.0.0.1"]).client(seconds=10) as client:
        assert client.post(receiver.url, content=b"").status_code == 200


def test_every_connection_of_a_client_is_looked_at(receiver: Receiver) -> None:
    """A redirect leads nowhere that the first request could not have gone."""
    receiver.statuses = [307]
    receiver.headers = {"location": receiver.url.replace("127.0.0.1", "127.0.0.2")}
    egress = Egress((ipaddress.ip_network("127.0.0.1/32"),))

    with (
        egress.client(seconds=10, follow_redirects=True) as client,
        pytest.raises(AddressNotAllowed, match=r"127\.0\.0\.2"),
    ):
        client.post(receiver.url, content=b"")


def test_a_redirect_of_a_post_is_not_followed(receiver: Receiver) -> None:
    receiver.statuses = [307]
    receiver.headers = {"location": receiver.url}

    assert _post(Egress(LOOPBACK), receiver.url) == 307
    assert len(receiver.seen) == 1


def test_no_more_is_read_than_was_asked_for(receiver: Receiver) -> None:
    receiver.body = b"x" * 1_000_000

    reply = Egress(LOOPBACK).post(receiver.url, b"", {}, seconds=10, limit=100)

    assert reply.body == b"x" * 100


@contextmanager
def _dripping() -> Iterator[str]:
    """A server that sends one header after another, and never ends."""
    stop = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not stop.wait(0.05):
                try:
                    connection.sendall(b"x-more: 1\r\n")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            stop.set()
            thread.join()


def test_an_answer_that_drips_ends_in_time() -> None:
    started = time.monotonic()

    with _dripping() as url, pytest.raises(httpx.ReadTimeout):
        _post(Egress(LOOPBACK), url, seconds=0.5)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://",
        "https://user:password@example.com/",
        "https://example.com/#there",
        "https://example.com:99999/",
        "https://[::1/",
        "https://exam ple.com/",
        "https://example.com/\x01",
        "https://xn--\u00fc.com/",
        "https://example.com/" + "a" * 2048,
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Egress().check_url(url)
    assert caught.value.param == "url"


def test_a_public_address_wants_https() -> None:
    Egress().check_url("https://8.8.8.8/")
    with pytest.raises(AddressNotAllowed, match="https"):
        Egress().check_url("http://8.8.8.8/")


@pytest.mark.parametrize(
    "host",
    [
        "127.1", "0", "0x7f000001", "0x7f.1", "017700000001", "2130706433", "127.0.0.1.",
        "[::1]", "[::ffff:10.0.0.1]", "[::127.0.0.1]", "[fe80::1%25eth0]",
        "127\u30020\u30020\u30021",
        "localhost", "LocalHost.", "a.localhost", "a.localhost\u3002",
    ],
)  # fmt: skip
def test_an_address_is_known_in_any_spelling(host: str) -> None:
    """Nobody has to be asked what these are."""
    with pytest.raises(AddressNotAllowed) as caught:
        Egress().check_url(f"https://{host}/")
    assert caught.value.param == "url"


@pytest.mark.parametrize(
    "host", ["\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127.0.0.01", "\u24db\u24de\u24dcalhost"]
)
def test_digits_and_letters_in_disguise_are_no_url(host: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a URL"):
        Egress().check_url(f"https://{host}/")


class Names:
    """A resolver that gives its answers one after the other, and the last one for ever."""

    def __init__(self, *addresses: str):
        self._addresses = [*addresses]

    def __call__(self, host: str, port: int, **_: object) -> list[object]:
        (address, *rest) = self._addresses
        self._addresses = rest or [address]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]


def test_a_name_that_leads_inside_is_refused_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names("10.0.0.7"))

    with pytest.raises(AddressNotAllowed) as caught:
        Egress().check_destination("https://intranet.example/")
    # What the name stands for is nothing to tell to whoever asks.
    assert "10.0.0.7" not in caught.value.message
    Egress((ipaddress.ip_network("10.0.0.0/8"),)).check_destination("https://intranet.example/")


def test_a_name_that_leads_elsewhere_the_second_time_is_refused_then(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names("8.8.8.8", "127.0.0.1"))
    port = httpx.URL(receiver.url).port

    Egress().check_destination(f"https://rebinding.example:{port}/")

    with pytest.raises(AddressNotAllowed):
        _post(Egress(), f"https://rebinding.example:{port}/")
    assert receiver.seen == []


def test_a_name_that_nobody_knows_yet_may_be_named() -> None:
    Egress().check_destination("https://nothing.invalid/")


def test_a_first_look_at_a_name_waits_for_no_slow_resolver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(30) and [])

    started = time.monotonic()
    Egress().check_destination("https://slow.example/", seconds=0.1)
    ended.set()

    assert time.monotonic() - started < 20


def test_a_name_that_nobody_knows_is_an_error_of_the_connection() -> None:
    with pytest.raises(httpx.ConnectError):
        _post(Egress(), "https://nothing.invalid/")


CHILD = """
import ipaddress, socket, sys, urllib.request
from core.egress import Egress, addresses_of, guard_process
guard_process(Egress([*addresses_of(sys.argv[2:])]))
print(urllib.request.urlopen(sys.argv[1], data=b"", timeout=10).status)
"""


@pytest.mark.parametrize("trusted", [True, False])
def test_a_guarded_process_connects_where_it_may(receiver: Receiver, trusted: bool) -> None:
    """Whatever library makes the connection: here, one that knows nothing of us."""
    command = [sys.executable, "-c", CHILD, receiver.url]
    done = subprocess.run(
        [*command, receiver.url] if trusted else command,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, "AddressNotAllowed" in done.stderr) == (
        ("200\n", False) if trusted else ("", True)
    )
    assert len(receiver.seen) == trusted
