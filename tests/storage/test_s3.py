"""What only S3 has: its server, which may be away, and its settings."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from core.errors import SettingsError, StorageForbidden, StorageFull, Unavailable
from core.storage import CorruptObject, Storage, open_storage
from tests.servers.s3 import S3Server

KEYS = {"s3_access_key": "access", "s3_secret_key": "secret"}
CALLS: dict[str, Callable[[Storage], Any]] = {
    "put": lambda storage: storage.put_stream("files/one", [b"1"]),
    "size": lambda storage: storage.size("files/one"),
    "exists": lambda storage: storage.exists("files/one"),
    "read": lambda storage: storage.read_bytes("files/one"),
    "list": lambda storage: list(storage.list("files")),
    "delete": lambda storage: storage.delete("files/one"),
    "delete_prefix": lambda storage: storage.delete_prefix("files"),
}


class Answer(BaseHTTPRequestHandler):
    """Answers each request with the status of its server."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_DELETE(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class TornAnswer(Answer):
    """Breaks off each answer after its first bytes."""

    def answer(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "1000")
        self.send_header("etag", '"1"')
        self.send_header("last-modified", "Mon, 23 Nov 2026 12:00:00 GMT")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"torn")
        self.close_connection = True


@pytest.fixture
def serve() -> Iterator[Callable[..., Storage]]:
    """Storage at a server that answers each request in the same way."""
    servers: list[ThreadingHTTPServer] = []

    def start(handler: type[Answer], status: int = 200) -> Storage:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.status = status  # type: ignore[attr-defined]
        servers.append(server)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return open_storage(
            "s3://bucket/prefix", s3_endpoint=f"http://127.0.0.1:{server.server_port}", **KEYS
        )

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_is_down_is_unavailable_soon(call: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # without listening: connections are refused
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        storage = open_storage("s3://bucket/prefix", s3_endpoint=endpoint, **KEYS)

        with pytest.raises(Unavailable, match="storage"):
            CALLS[call](storage)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("status", [403, 500, 503])
@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_refuses_is_unavailable_soon(
    serve: Callable[..., Storage], call: str, status: int
) -> None:
    storage = serve(Answer, status)

    with pytest.raises(Unavailable, match="storage"):
        CALLS[call](storage)


def test_a_server_without_room_is_full(serve: Callable[..., Storage]) -> None:
    with pytest.raises(StorageFull):
        serve(Answer, 507).put_stream("files/one", [b"1"])


@pytest.mark.parametrize("call", ["put", "list", "delete_prefix"])
def test_a_bucket_that_does_not_exist_is_no_missing_object(
    serve: Callable[..., Storage], call: str
) -> None:
    storage = serve(Answer, 404)

    with pytest.raises(Unavailable, match="storage"):
        CALLS[call](storage)


@pytest.mark.timeout(30)
def test_an_answer_that_breaks_off_is_no_shorter_object(
    serve: Callable[..., Storage], tmp_path: Path
) -> None:
    storage = serve(TornAnswer)

    with pytest.raises(Unavailable):
        storage.read_bytes("files/one")
    with pytest.raises(Unavailable):
        storage.fetch("files/one", tmp_path / "target", sha256="")

    assert list(tmp_path.iterdir()) == []


def test_wrong_keys_are_refused(s3_server: S3Server) -> None:
    storage = open_storage("s3://tuneyard/prefix", s3_endpoint=s3_server.endpoint, **KEYS)

    with pytest.raises(StorageForbidden, match="403"):
        storage.put_stream("files/one", [b"1"])
    with pytest.raises(StorageForbidden, match="403"):
        list(storage.list("files"))
    with pytest.raises(StorageForbidden, match="403"):
        storage.check_access()


def test_a_server_that_tags_by_content_vouches_for_it(s3_storage: Storage) -> None:
    """Nothing is read back then: the wrong hash is not noticed."""
    stored = s3_storage.put_stream("files/one", [b"1" * 100])

    s3_storage.verify(replace(stored, sha256="0" * 64))


def test_a_server_with_other_tags_is_read_back(s3_storage: Storage) -> None:
    stored = replace(s3_storage.put_stream("files/one", [b"1" * 100]), tag="other")

    s3_storage.verify(stored)
    with pytest.raises(CorruptObject):
        s3_storage.verify(replace(stored, sha256="0" * 64))


def test_the_environment_does_not_change_what_was_set(
    s3_storage: Storage, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_storage.put_stream("files/one", [b"1"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "other")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_REGION", "other")

    storage = open_storage(
        s3_storage.location("files"),
        s3_endpoint=s3_server.endpoint,
        s3_access_key=s3_server.access_key,
        s3_secret_key=s3_server.secret_key,
    )

    assert storage.read_bytes("one") == b"1"


def test_a_signed_url_needs_no_keys(s3_storage: Storage) -> None:
    s3_storage.put_stream("files/a b", [b"hello"])
    url = s3_storage.signed_url("files/a b", 60)
    assert url is not None

    with urlopen(url) as response:
        assert response.read() == b"hello"
    with pytest.raises(HTTPError) as raised, urlopen(url.partition("?")[0]):
        pass

    raised.value.close()
    assert raised.value.code == 403


def test_an_object_is_named_by_bucket_and_prefix(tmp_path: Path, s3_storage: Storage) -> None:
    assert s3_storage.location("files/one") == f"s3://tuneyard/{tmp_path.name}/files/one"
    assert s3_storage.local_path("files/one") is None
    assert s3_storage.free_bytes() is None


def test_aws_needs_a_bucket_only() -> None:
    assert open_storage("s3://bucket").location("one") == "s3://bucket/one"
    assert open_storage("s3://bucket/").location("one") == "s3://bucket/one"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "storage",
        "./storage",
        "file:storage",
        "file://storage",
        "http://host/bucket",
        "gs://bucket",
        "s3:bucket",
        "s3://",
        "s3:///prefix",
        "s3://bucket/a?b",
        "s3://bucket/a#b",
        "s3://key:hidden@bucket/prefix",
    ],
)
def test_a_bad_url_names_its_setting(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^STORAGE_URL: .*s3://bucket/prefix") as raised:
        open_storage(url)

    assert raised.value.param == "STORAGE_URL"
    assert "hidden" not in raised.value.message


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"s3_access_key": "access"}, "S3_SECRET_ACCESS_KEY"),
        ({"s3_secret_key": "secret"}, "S3_ACCESS_KEY_ID"),
        ({"s3_endpoint": "localhost:8333", **KEYS}, "S3_ENDPOINT_URL"),
    ],
)
def test_a_bad_parameter_names_its_setting(parameters: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: ") as raised:
        open_storage("s3://bucket/prefix", **parameters)

    assert raised.value.param == name
