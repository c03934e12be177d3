"""Parsers of what strangers send, as functions of bytes: each asserts what must hold for any bytes.

`test_parsers` feeds them what hypothesis makes, `benchmarks/fuzz_parsers.py` what atheris finds.
"""

import ipaddress
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient

from app.body import parse_body
from app.download import file_response
from app.main import create_app
from app.routes.watching import parse_cursor
from core.base_model import parse_model
from core.dataset import FileReport, FileValidator
from core.dataset.reading import Source, rows_of
from core.db import Database
from core.egress import Egress
from core.errors import InvalidArgument, InvalidModel
from core.migrate import upgrade
from core.model_check import check_config
from core.model_facts import ModelFacts, header_size, make_facts, parse_config, parse_header
from core.plan.reader import total_shapes
from core.settings import Settings
from core.storage import Storage, open_storage

CONTENT = bytes(range(256))
JOB = "ftjob-0123456789abcdef01234567"
BOUNDARY = "b"
MAX_CURSOR = 2**63

Target = Callable[[bytes], None]


def rows(data: bytes, name: str) -> None:
    """Any cut of a file gives one report, and a good one is read again without an error."""
    whole, parts = FileValidator(name), FileValidator(name)
    whole.feed(data)
    for part in cut(data):
        parts.feed(part)
    report, other = whole.finish(), parts.finish()
    assert report.to_dict() == other.to_dict()
    assert whole.needs_file == parts.needs_file
    assert FileReport.from_dict(orjson.loads(orjson.dumps(report.to_dict()))) == report
    if whole.needs_file or not report.rows or report.errors:
        return
    path = _home() / "rows"
    path.write_bytes(data)
    read = list(rows_of(Source(path, report.format, report.compression)))
    assert len(read) == report.rows


def cut(data: bytes) -> Iterator[bytes]:
    """Pieces of it, by a chance that it decides itself."""
    chance, start = random.Random(data), 0
    while start < len(data):
        end = start + chance.choice((1, 2, 7, 64, len(data)))
        yield data[start:end]
        start = end


def byte_range(data: bytes) -> None:
    """A range is answered with just these bytes, or refused with the size; else the whole."""
    header = data.decode("latin-1")
    request = Request(
        {"type": "http", "method": "GET", "headers": [(b"range", header.encode("latin-1"))]}
    )
    response = file_response(request, _stored(), key="a", size=len(CONTENT), tag="t", filename="a")
    said = response.headers.get("content-range", "")
    if response.status_code == 416:
        assert said == f"bytes */{len(CONTENT)}"
        return
    assert isinstance(response, StreamingResponse)
    if response.status_code == 200:
        assert not said
        assert response.headers["content-length"] == str(len(CONTENT))
        return
    assert response.status_code == 206
    span, _, total = said.removeprefix("bytes ").partition("/")
    first, last = map(int, span.split("-"))
    assert total == str(len(CONTENT))
    assert 0 <= first <= last < len(CONTENT)
    assert response.headers["content-length"] == str(last + 1 - first)
    content = b"".join(_stored().read("a", start=first, end=last + 1))
    assert content == CONTENT[first : last + 1]


def url(data: bytes) -> None:
    """Whoever uses a URL that was taken goes to the host that was looked at."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        Egress().check_url(text)
    except InvalidArgument:
        return
    looked, used = urlsplit(text), httpx.URL(text)
    assert used.scheme == looked.scheme
    assert looked.hostname
    assert _address(looked.hostname) == _address(used.raw_host.decode().strip("[]"))
    if looked.hostname.isascii():
        assert used.raw_host.decode().strip("[]") == looked.hostname
    assert (looked.port or used.port) == used.port
    assert used.userinfo == b""
    assert used.is_absolute_url


def _address(host: str) -> object:
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    return None


def facts(data: bytes) -> None:
    """A configuration and a header, in that order, give sizes or are refused by name."""
    raw, _, header = data.partition(b"\0")
    try:
        config = parse_config("a/b", raw)
    except InvalidArgument:
        return
    with suppress(InvalidModel):
        check_config("a/b", config)
    with suppress(InvalidArgument):
        _are_sizes(make_facts("a/b", config, {}))
    with suppress(InvalidArgument):
        size = header_size("a/b", "x", header[:8])
        _are_sizes(make_facts("a/b", config, parse_header("a/b", "x", header[8 : 8 + size])))
    with suppress(InvalidArgument):
        _are_sizes(make_facts("a/b", config, total_shapes("a/b", header, config)))


def _are_sizes(found: ModelFacts) -> None:
    values = orjson.loads(orjson.dumps(found.as_dict()))
    assert all(isinstance(values[name], int) and values[name] >= 0 for name in ("parameters",))
    assert 0 <= found.dropout <= 1
    assert 0 <= found.attention_dropout <= 1
    assert found.layer_parameters > 0


def header(data: bytes) -> None:
    """The header of a safetensors file has sizes only, or is refused by name."""
    try:
        shapes = parse_header("a/b", "x", data)
    except InvalidArgument:
        return
    for shape, dtype in shapes.values():
        assert isinstance(dtype, str)
        assert all(type(size) is int and size >= 0 for size in shape)


def body(data: bytes) -> None:
    """A JSON body is an object that the database can hold, or is refused."""
    try:
        found = parse_body(data)
    except InvalidArgument:
        return
    assert "\\u0000" not in orjson.dumps(found).decode().replace("\\\\", "")


def cursor(data: bytes) -> None:
    """`Last-Event-ID` is a number that the database can hold, or is refused."""
    text = data.decode("latin-1")
    with suppress(InvalidArgument):
        assert 0 <= parse_cursor(JOB, text) < MAX_CURSOR


def model_name(data: bytes) -> None:
    """A name of a model is no path, whatever joins it to one."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        parsed = parse_model(text)
    except InvalidArgument:
        return
    below = Path("/models", parsed.name)
    assert below.resolve() == below
    assert len(below.parts) <= 2 + 5
    assert text.isascii()
    assert text.isprintable()


def multipart(data: bytes) -> None:
    """An upload is taken or refused in the envelope, and what was refused is not kept."""
    client, storage = _server()
    content_type = f"multipart/form-data; boundary={BOUNDARY}"
    response = client.post("/v1/files", content=data, headers={"content-type": content_type})
    answer = response.json()
    assert response.status_code in (200, 400, 413), response.text
    if response.status_code == 200:
        assert client.delete(f"/v1/files/{answer['id']}").status_code == 200
    else:
        assert answer["error"]["message"]
    assert not list(storage.list("files"))


@cache
def _home() -> Path:
    return Path(mkdtemp(prefix="tuneyard-parsers-"))


@cache
def _stored() -> Storage:
    storage = open_storage((_home() / "storage").as_uri())
    storage.put_stream("a", [CONTENT])
    return storage


@cache
def _server() -> tuple[TestClient, Storage]:
    settings = Settings(TUNEYARD_HOME=_home(), RATE_LIMIT_PER_MINUTE=0)
    database = Database(settings.database_url)
    upgrade(database)
    database.close()
    client = TestClient(create_app(settings), base_url="http://127.0.0.1")
    client.__enter__()
    return client, open_storage(settings.storage_url)


def field(name: str, value: bytes, more: str = "") -> bytes:
    """One part of a form."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def packed(value: Any) -> bytes:
    """A file of safetensors with this header."""
    raw = orjson.dumps(value)
    return len(raw).to_bytes(8, "little") + raw


SIZES = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": 99, "dtype": "float16", "torch_dtype": None, "text_config": {}, "dropout": 0.1,
    "architectures": ["LlamaForCausalLM"], "attn_implementation": "sdpa", "head_dim": 1e3,
}  # fmt: skip
TENSORS = {"__metadata__": {}, "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
FORM = field("purpose", b"fine-tune") + field("file", b'{"text": "a"}', '; filename="a.jsonl"')

TARGETS: Mapping[str, Target] = {
    "jsonl": lambda data: rows(data, "a.jsonl"),
    "array": lambda data: rows(b"[" + data, "a.json"),
    "csv": lambda data: rows(data, "a.csv"),
    "range": byte_range,
    "url": url,
    "facts": facts,
    "header": header,
    "body": body,
    "cursor": cursor,
    "model_name": model_name,
    "multipart": multipart,
}

SEEDS: Mapping[str, tuple[bytes, ...]] = {
    "jsonl": (b'{"text": "a"}\n\r\n{"text": "\xc3\xa9"}', b"\xef\xbb\xbf{}", b"\xff\xfe",
              b"\x1f\x8b"),
    "array": (b'{"text": "a"}, {"text": "b"}]', b"]", b'{"a": [1e5, "\\u00e9"]},\n{}]'),
    "csv": (b'a;b\n"x\n""y";2\r\n', b"text\na\n", b'prompt,"b"\n"[1]",2\n'),
    "range": (b"bytes=0-1", b"bytes=-5", b"bytes=300-", b"bytes=1-0", b"bytes=0-1,3-4",
              b"Bytes = 9-"),
    "url": (b"https://example.com/a?b", b"http://[::1]:80/", b"https://a@b/", b"https://\xc3\xa9.com",
            b"http://127.0.0.1", b"https://1.1.1.1\\@2", b"https://EXAMPLE.com:443#a", b"https://a%2eb",
            b"http://127.0>0.1", "https://\uff11\uff12\uff17.0.0.1".encode()),
    "facts": (orjson.dumps(SIZES) + b"\0" + packed(TENSORS),
              orjson.dumps(SIZES) + b"\0" + orjson.dumps({"metadata": {"total_size": 1e999}})),
    "header": (orjson.dumps(TENSORS), b'{"a": {"dtype": "F32", "shape": [1e999]}}'),
    "body": (b'{"a": [1, {"b": "\\u0000"}]}', b'{"a": NaN}', b"[" * 40),
    "cursor": (b"12", b"ftevent-0123456789abcdef01234567-12", b"9223372036854775808", b"\xb2"),
    "model_name": (b"local/tiny", b"jobs/ftjob-0123456789abcdef01234567.step-5", b"a/b", b"../a"),
    "multipart": (FORM + b"--b--\r\n", FORM, field("expires_after[seconds]", b"1"), b"--b--"),
}  # fmt: skip
"""Where to begin; hypothesis changes these, and atheris goes on from them."""
