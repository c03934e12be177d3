"""Whoever may not come in any more is not sent any more either."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import update
from starlette.types import Message

from app import visits
from app.caller import Caller
from app.visits import Visits
from core.access import ApiKey
from core.db import Database, database_now
from core.keys import Scope, create_key, end_session
from core.models import File
from tests.api.conftest import JOBS, Site, problem_of

STREAM = {"accept": "text/event-stream"}
EVENTS = b"text/event-stream"
GIB = 1024**3


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are looked at more often than in real life."""
    monkeypatch.setattr(visits, "CHECK_SECONDS", 0.05)


def _key(database: Database) -> str:
    with database.write() as session:
        return create_key(session, "a", scope=Scope.ADMIN, now=database_now(session))[1]


def _revoke(client: httpx.Client, database: Database) -> None:
    with database.write() as session:
        session.execute(update(ApiKey).values(revoked_at=database_now(session)))


def _expire(client: httpx.Client, database: Database) -> None:
    with database.write() as session:
        past = database_now(session) - timedelta(seconds=1)
        session.execute(update(ApiKey).values(expires_at=past))


def _sign_out(client: httpx.Client, database: Database) -> None:
    with database.write() as session:
        end_session(session, client.cookies["tuneyard_session"])


def _first_key(client: httpx.Client, database: Database) -> None:
    _key(database)


@contextmanager
def _client(url: str, database: Database, by: str) -> Iterator[httpx.Client]:
    """Somebody who comes in by a key, by the page, or by being on this machine."""
    with httpx.Client(base_url=url, timeout=30) as client:
        if by != "nothing":
            key = _key(database)
            if by == "a session":
                assert client.post("/session", json={"key": key}).status_code == 204
            else:
                client.headers["authorization"] = f"Bearer {key}"
        yield client


@pytest.mark.parametrize(
    ("by", "end"),
    [
        pytest.param("a key", _revoke, id="a key that was revoked"),
        pytest.param("a key", _expire, id="a key that expired"),
        pytest.param("a session", _revoke, id="a session whose key was revoked"),
        pytest.param("a session", _sign_out, id="a session that was signed out"),
        pytest.param("nothing", _first_key, id="no key once there is one"),
    ],
)
def test_a_stream_ends_with_the_right_to_read_it(
    site: Site, url: str, database: Database, by: str, end: Callable[..., None]
) -> None:
    path = f"{JOBS}/{site.submit()}/events"

    with (
        _client(url, database, by) as client,
        client.stream("GET", path, headers=STREAM) as response,
    ):
        parts = response.iter_bytes()
        assert next(parts) == b"retry: 1000\n\n"
        end(client, database)
        rest = b"".join(parts)

        # The end is a clean one: nobody takes it for a fault of the network.
        assert rest.endswith(b"\n\n")
        problem_of(client.get(path, headers=STREAM), 401)


def test_a_download_breaks_off_when_its_key_is_revoked(
    site: Site, url: str, database: Database
) -> None:
    file_id = site.upload(b"x", purpose="user_data")
    with database.write() as session:
        file = session.get_one(File, file_id)
        file.size_bytes = 16 * GIB
        path = site.storage.local_path(file.storage_key)
    assert path is not None
    os.truncate(path, 16 * GIB)

    with (
        _client(url, database, "a key") as client,
        client.stream("GET", f"/v1/files/{file_id}/content") as response,
    ):
        parts = response.iter_raw()
        next(parts)
        _revoke(client, database)
        # It must not look whole.
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            for _ in parts:
                pass


def test_a_thousand_streams_of_a_key_are_one_question() -> None:
    asked: list[Collection[Caller]] = []
    here = Caller(key_id="key_1")

    def still_welcome(callers: Collection[Caller]) -> Collection[Caller]:
        asked.append(callers)
        return callers if len(asked) == 1 else ()

    async def app(scope: object, receive: object, send: Callable[..., Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "headers": [(b"content-type", EVENTS)]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await asyncio.Event().wait()

    async def serve() -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            raise AssertionError

        open_to = Visits(still_welcome)
        scope = {"path": "/"}
        await asyncio.gather(*(open_to.serve(app, here, scope, receive, send) for _ in range(1000)))
        return sent

    sent = asyncio.run(serve())

    assert asked == [{here}, {here}]
    assert sum(message == visits.END for message in sent) == 1000
