"""Live events: one hub for each process asks SQL for all watched jobs, readers read their own.

Events come from SQL and nowhere else, so a reader that resumes after number n misses nothing and
gets nothing twice, whichever server answers.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool

from core.db import Database
from core.errors import TuneyardError
from core.events import read_events
from core.jobs import watch_jobs
from core.models import Event

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
PING_SECONDS = 15.0
BATCH = 500

Render = Callable[[Event], dict[str, Any]]


class Hub:
    """Tells readers when their job has new events. Polls only while somebody reads."""

    def __init__(self, database: Database):
        self._database = database
        self._readers: dict[str, set[asyncio.Event]] = {}
        self._known: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    async def stream(self, job_id: str, *, after_seq: int, render: Render) -> AsyncIterator[bytes]:
        """Server-sent events newer than `after_seq`, until the job's last one."""
        changed = self._join(job_id)
        cursor = after_seq
        try:
            # Something goes out at once, so that the client sees that it is connected.
            yield b"retry: 1000\n\n"
            while not self._is_closed:
                changed.clear()
                events, is_over = await self._read(job_id, cursor)
                if events:
                    cursor = events[-1].seq
                    yield b"".join(_frame(event, render(event)) for event in events)
                    continue
                if is_over:
                    return
                if not await _wait(changed, PING_SECONDS):
                    yield b": ping\n\n"
        finally:
            self._leave(job_id, changed)

    async def close(self) -> None:
        """End all streams; their clients come back to another server, or to this one."""
        self._is_closed = True
        for readers in self._readers.values():
            for reader in readers:
                reader.set()
        if self._task is not None:
            self._task.cancel()

    def _join(self, job_id: str) -> asyncio.Event:
        changed = asyncio.Event()
        self._readers.setdefault(job_id, set()).add(changed)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        return changed

    def _leave(self, job_id: str, changed: asyncio.Event) -> None:
        readers = self._readers[job_id]
        readers.discard(changed)
        if not readers:
            del self._readers[job_id]
            self._known.pop(job_id, None)

    async def _poll(self) -> None:
        while self._readers and not self._is_closed:
            try:
                newest = await run_in_threadpool(self._newest, list(self._readers))
            except TuneyardError as error:
                logger.warning("streams wait: %s", error.message)
                newest = {}
            for job_id, seq in newest.items():
                if self._known.get(job_id) != seq:
                    self._known[job_id] = seq
                    self._wake(job_id)
            await asyncio.sleep(POLL_SECONDS)

    def _newest(self, job_ids: list[str]) -> dict[str, int]:
        with self._database.read() as session:
            return {job_id: seq for job_id, seq, _ in watch_jobs(session, job_ids)}

    def _wake(self, job_id: str) -> None:
        for reader in self._readers.get(job_id, ()):
            reader.set()

    async def _read(self, job_id: str, cursor: int) -> tuple[list[Event], bool]:
        """The next events, and whether there will never be more; a database away has none yet."""
        try:
            return await run_in_threadpool(self._read_now, job_id, cursor)
        except TuneyardError as error:
            logger.warning("stream of %s waits: %s", job_id, error.message)
            return [], False

    def _read_now(self, job_id: str, cursor: int) -> tuple[list[Event], bool]:
        with self._database.read() as session:
            found = list(watch_jobs(session, [job_id]))
            events = read_events(session, job_id, after_seq=cursor, limit=BATCH)
        is_over = not found or (found[0][2].is_terminal and not events)
        return events, is_over


async def _wait(changed: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(changed.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _frame(event: Event, data: dict[str, Any]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.seq,
        data["type"].encode(),
        orjson.dumps(data),
    )
