"""Gathers what an attempt tells, and writes it in order, from a thread of its own.

The thread that reads the child must never wait for the database: a full pipe stops the training.
"""

import logging
import threading
from datetime import UTC, datetime
from typing import Any

from core.db import Database, database_now
from core.errors import LeaseLost, Unavailable
from core.events import NewEvent
from core.queue import Lease, record_batch
from core.states import EventKind

logger = logging.getLogger(__name__)

MAX_BATCH = 500
MAX_WAITING = 10_000
"""Events kept while the database is away; beyond it log lines are dropped, and counted."""
MAX_WAIT_SECONDS = 5.0


class Recorder:
    """Buffers events and progress of one attempt; `lost` is set when its lease is gone."""

    def __init__(self, database: Database, lease: Lease, *, flush_seconds: float):
        self._database = database
        self._lease = lease
        self._flush_seconds = flush_seconds
        self._changed = threading.Condition()
        self._waiting: list[NewEvent] = []
        self._values: dict[str, Any] = {}
        self._dropped = 0
        self._writing = False
        self._number = 0
        """Of the batch that is being written; it stays until that is known to be done."""
        self._batch: list[NewEvent] = []
        self._batch_values: dict[str, Any] = {}
        self._closing = False
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def add(self, event: NewEvent | None = None, **values: Any) -> None:
        """Take an event and columns of the job to be set with it; returns at once."""
        if event is not None and event.created_at is None:
            event = _dated(event)
        with self._changed:
            full = len(self._waiting) + len(self._batch) >= MAX_WAITING
            if event is not None and full and event.kind is EventKind.LOG:
                self._dropped += 1
            elif event is not None:
                self._waiting.append(event)
            self._values |= values
            self._changed.notify_all()

    def barrier(self, timeout: float | None = None) -> bool:
        """Wait until all that was added is written; False when it will not be, or time is up."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.lost.is_set() or self._closing or self._is_empty(), timeout=timeout
            )
            return self._is_empty() and not self.lost.is_set()

    def close(self) -> None:
        """Stop the thread. What is not written by then stays unwritten; use `barrier` before."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _is_empty(self) -> bool:
        return not self._waiting and not self._values and not self._writing

    def _run(self) -> None:
        wait = self._flush_seconds
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing or self._writing or bool(self._waiting or self._values)
                )
                if self._closing:
                    return
                # Let more come in, so that one transaction carries many.
                self._changed.wait_for(lambda: self._closing, timeout=wait)
                if not self._writing:
                    self._take()
            wait = self._write(wait)

    def _take(self) -> None:
        self._number += 1
        self._batch = self._waiting[:MAX_BATCH]
        del self._waiting[:MAX_BATCH]
        if self._dropped:
            text = f"{self._dropped} log lines were dropped while the database was away"
            self._batch.append(_dated(NewEvent(kind=EventKind.LOG, message=text)))
            self._dropped = 0
        self._batch_values, self._values = self._values, {}
        self._writing = True

    def _write(self, wait: float) -> float:
        """Write the batch that was taken; returns how long to wait before the next look."""
        try:
            with self._database.write() as session:
                record_batch(
                    session,
                    self._lease,
                    self._number,
                    self._batch,
                    now=database_now(session),
                    **self._batch_values,
                )
        except LeaseLost:
            self._settle(lost=True)
            return self._flush_seconds
        except Unavailable:
            # The same batch again: whether it was committed is not known.
            logger.warning("database away, %d events wait", len(self._batch))
            return min(max(wait, 0.2) * 2, MAX_WAIT_SECONDS)
        except Exception:
            # With the thread gone in silence, the attempt would wait for it without end.
            logger.exception("events of %s cannot be written", self._lease.job_id)
            self._settle(lost=True)
            return self._flush_seconds
        self._settle()
        return self._flush_seconds

    def _settle(self, *, lost: bool = False) -> None:
        with self._changed:
            self._writing = False
            self._batch = []
            if lost:
                self.lost.set()
                self._waiting.clear()
                self._values.clear()
            self._changed.notify_all()


def _dated(event: NewEvent) -> NewEvent:
    return NewEvent(
        kind=event.kind,
        message=event.message,
        data=event.data,
        level=event.level,
        created_at=datetime.now(UTC),
    )
