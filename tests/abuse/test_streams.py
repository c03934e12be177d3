"""A key holds so many streams and no more, and each place comes back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.limits import MAX_STREAMS, LimitedStream, Places
from app.main import create_app
from core.settings import Settings
from tests.api.conftest import JOBS, Site, changed, listening


@pytest.fixture
def small(site: Site, api_settings: Settings) -> Iterator[str]:
    """A real server that gives each key three streams."""
    with listening(create_app(changed(api_settings, max_streams_per_key=3))) as url:
        yield url


async def _asked(url: str, job: str, count: int) -> list[int]:
    """The statuses of so many streams that are open at the same time."""
    headers = {"accept": "text/event-stream"}
    async with httpx.AsyncClient(base_url=url) as client:
        requests = [
            client.build_request("GET", f"{JOBS}/{job}/events", headers=headers)
            for _ in range(count)
        ]
        answers = [await client.send(request, stream=True) for request in requests]
        for answer in answers:
            if answer.status_code == 429:
                error = (await answer.aread(), answer.json()["error"])[1]
                assert error["code"] == "rate_limit_exceeded"
                assert answer.headers["retry-after"] == "5"
        assert (await client.get("/healthz")).status_code == 200
        for answer in answers:
            await answer.aclose()
        return [answer.status_code for answer in answers]


def test_more_streams_than_a_key_may_hold_are_refused(site: Site, small: str) -> None:
    job = site.submit()

    statuses = asyncio.run(_asked(small, job, 20))

    assert statuses == [200] * 3 + [429] * 17


def test_a_server_holds_so_many_streams_of_all_keys() -> None:
    places = Places(each=MAX_STREAMS)

    taken = [places.take(f"key {number}") for number in range(MAX_STREAMS + 1)]

    assert taken == [True] * MAX_STREAMS + [False]


@pytest.mark.parametrize("breaks", [False, True])
def test_the_place_of_a_stream_that_ended_is_free(breaks: bool) -> None:
    places = Places(each=1)

    async def content() -> AsyncIterator[bytes]:
        yield b"a"

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if breaks:
            raise OSError("the reader has left")

    async def serve() -> None:
        stream = LimitedStream(
            content(), places=places, who="key", media_type="text/plain", headers={}
        )
        scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
        with pytest.raises(ClientDisconnect) if breaks else nullcontext():
            await stream(scope, receive, send)

    asyncio.run(serve())

    assert places.take("key")
