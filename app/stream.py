"""Live events: one hub for each process asks SQL for all watched jobs, readers share what it read.

Events come from SQL and nowhere else, so a reader that resumes after number n misses nothing and
gets nothing twice, whichever server answers.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
from starlette.concurrency import run_in_threadpool

from app.schemas import EventObject
from core.db import Database
from core.errors import TuneyardError
from core.events import read_events
from core.jobs import watch_jobs
from core.models import Event

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
PING_SECONDS = 15.0
BATCH = 500


@dataclass(frozen=True, slots=True)
class _Batch:
    """The next events of a job, as they are sent."""

    frames: bytes
    last_seq: int
    is_over: bool
    """Whether there will never be more."""


class Hub:
    """Tells readers when their job has new events. Polls only while somebody reads."""

    def __init__(self, database: Database):
        self._database = database
        self._readers: dict[str, set[asyncio.Event]] = {}
        self._known: dict[str, int] = {}
        self._reads: dict[tuple[str, int, int | None], asyncio.Task[_Batch]] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    async def stream(self, job_id: str, *, after_seq: int) -> AsyncIterator[bytes]:
        """Server-sent events newer than `after_seq`, until the job's last one."""
        changed = self._join(job_id)
        cursor = after_seq
        try:
            # Something goes out at once, so that the client sees that it is connected.
            yield b"retry: 1000\n\n"
            while not self._is_closed:
                changed.clear()
                batch = await self._read(job_id, cursor)
                if batch.frames:
                    cursor = batch.last_seq
                    yield batch.frames
                    continue
                if batch.is_over:
                    return
                if not await _wait(changed, PING_SECONDS):
                    yield b": ping\n\n"
        finally:
            self._leave(job_id, changed)

    def close(self) -> None:
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

    async def _read(self, job_id: str, cursor: int) -> _Batch:
        """The events after `cursor`, read once for all readers that are there."""
        # A read that began before the newest wake-up may have missed what that was about.
        key = (job_id, cursor, self._known.get(job_id))
        if key not in self._reads:
            self._reads[key] = asyncio.create_task(self._try_to_read(job_id, cursor))
            self._reads[key].add_done_callback(lambda _: self._reads.pop(key))
        return await asyncio.shield(self._reads[key])

    async def _try_to_read(self, job_id: str, cursor: int) -> _Batch:
        """The events after `cursor`; none while the database is away."""
        try:
            return await run_in_threadpool(self._read_now, job_id, cursor)
        except TuneyardError as error:
            logger.warning("stream of %s waits: %s", job_id, error.message)
            # What the poll told of was not read: it has to tell again.
            self._known.pop(job_id, None)
            return _Batch(b"", cursor, is_over=False)

    def _read_now(self, job_id: str, cursor: int) -> _Batch:
        with self._database.read() as session:
            found = list(watch_jobs(session, [job_id]))
            events = read_events(session, job_id, after_seq=cursor, limit=BATCH)
        is_over = not found or (found[0][2].is_terminal and not events)
        last_seq = events[-1].seq if events else cursor
        return _Batch(b"".join(map(_frame, events)), last_seq, is_over)


async def _wait(changed: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(changed.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _frame(event: Event) -> bytes:
    data = EventObject.of(event).model_dump(mode="json")
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.seq,
        data["type"].encode(),
        orjson.dumps(data),
    )
