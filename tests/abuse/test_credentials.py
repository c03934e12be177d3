"""Keys that are guessed, sent in wrong ways, or looked for in logs.

Whose key it is says a lookup by its hash, so the time that takes tells nothing of the text: no two
texts are compared letter by letter. That is a matter of structure, and tested as one.
"""

import ast
import logging
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from app import security
from app.routes.page import DOCUMENT_PATHS
from core import keys
from core.db import Database, database_now
from core.keys import Scope, create_key, find_key
from tests.abuse.test_cases import case
from tests.api.conftest import JOBS, Site, problem_of

WELL_KNOWN = "ty-canary-0123456789-0123456789-0123456789-01"
SECRET_NAMES = {"text", "key", "hash", "found", "value", "_key", "secret", "cookie"}


@pytest.fixture
def key(database: Database) -> str:
    """A key of an administrator."""
    with database.write() as session:
        return create_key(session, "a", scope=Scope.ADMIN, now=database_now(session))[1]


SENT = [
    case([b"bearer KEY"], 200, id="a scheme in lower case"),
    case([b"BEARER KEY"], 200, id="a scheme in upper case"),
    case([b"Bearer KEY", b"Bearer ty-other"], 401, id="a second key"),
    case([b"Bearer ty-other", b"Bearer KEY"], 401, id="a second key before it"),
    case([b"Bearer KEY", b"Bearer KEY"], 401, id="the same key twice"),
    case([b"Bearer KEY, Bearer KEY"], 401, id="two keys in a header"),
    case([b"KEY"], 401, id="no scheme"),
    case([b"Token KEY"], 401, id="another scheme"),
    case([b"BearerKEY"], 401, id="no space"),
    case([b"Bearer KEYx"], 401, id="a letter more"),
    case([b"Bearer KEY\0"], 401, id="NUL"),
    case([b"Bearer KEY " + b"a" * 65_536], 401, id="64 KB"),
    case([b"Bearer \xff\xfe"], 401, id="no text"),
    case([], 401, id="none"),
]


@pytest.mark.parametrize(("values", "status"), SENT)
def test_a_key_counts_in_one_form_and_is_never_written_down(
    site: Site,
    key: str,
    caplog: pytest.LogCaptureFixture,
    values: list[bytes],
    status: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = [(b"authorization", value.replace(b"KEY", key.encode())) for value in values]

    response = site.client.get("/v1/files", headers=headers)

    assert response.status_code == status
    if status == 401:
        assert problem_of(response, 401)["code"] == "invalid_api_key"
    assert key not in response.text
    assert key not in caplog.text


@pytest.mark.parametrize("name", ["api_key", "key", "access_token", "authorization", "token"])
def test_a_key_in_a_query_opens_nothing_and_is_not_written_down(
    site: Site, url: str, key: str, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """On a real server, whose own log of accesses has whole queries."""
    caplog.set_level(logging.INFO)
    host, port = url.removeprefix("http://").split(":")

    with socket.create_connection((host, int(port))) as connection:
        request = (
            f"GET /v1/files?{name}={key} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        )
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert key.encode() not in answer
    assert "GET /v1/files 401" in caplog.text
    assert key not in caplog.text


@pytest.mark.parametrize("right", [0, 8, 30])
def test_only_the_hash_of_a_key_is_looked_up(database: Database, key: str, right: int) -> None:
    """However many letters of it are right."""
    guess = key[:right] + WELL_KNOWN[right:]
    asked: list[Any] = []

    def note(_connection: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        if "api_keys" in statement:
            asked.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", note)
    with database.read() as session:
        assert find_key(session, guess, now=database_now(session)) is None
    event.remove(database.engine, "before_cursor_execute", note)

    ((statement, values),) = asked
    assert "WHERE api_keys.hash = " in statement
    ((_, value),) = values.items() if isinstance(values, dict) else enumerate(values)
    assert len(value) == 64
    assert guess not in value


@pytest.mark.parametrize("module", [security, keys])
def test_no_secret_is_compared_letter_by_letter(module: Any) -> None:
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())

    compared = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq | ast.In) for operator in node.ops)
        and any(_names_a_secret(side) for side in (node.left, *node.comparators))
    ]

    # The one that is there is a condition of SQL on an index of hashes.
    assert compared == (["ApiKey.hash == _hash(text)"] if module is keys else [])


def _names_a_secret(node: ast.expr) -> bool:
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    names |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    return bool(names & SECRET_NAMES)


@pytest.mark.parametrize("path", ["/v1/files", JOBS, "/v1/nothing", "/hf/api/whoami-v2"])
def test_a_wrong_key_is_answered_the_same_everywhere(site: Site, key: str, path: str) -> None:
    answers = [
        site.client.get(path, headers={"authorization": f"Bearer {guess}"})
        for guess in (WELL_KNOWN, key[:-1] + "~", "ty-")
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1


PUBLIC = {
    *DOCUMENT_PATHS, "/healthz", "/readyz", "/jobs/{job_id}", "/static/{version}/{name:path}",
    "/docs/guide", "/docs/guide/{name:path}", "/session",
}  # fmt: skip
"""What holds nothing of anybody."""


def test_every_other_route_wants_a_key(site: Site, key: str) -> None:
    """Of all that the server answers, also what `openapi.json` does not tell of."""
    app: Any = site.client.app
    opened = set()
    for route in app.state.routes:
        path = re.sub(r"\{[^}]*\}", "x", route.path)
        for method in sorted(route.methods or ()):
            answer = site.client.request(method, path, headers={"accept": "text/event-stream"})
            if answer.status_code != 401:
                opened.add(route.path)

    assert opened == PUBLIC
    assert len(app.state.routes) > 50
