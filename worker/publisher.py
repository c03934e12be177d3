"""Copies finished checkpoints to storage and makes them visible, while the training goes on."""

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.checkpoints import (
    ManifestEntry,
    checkpoint_prefix,
    drop_surplus,
    part_of,
    publish_checkpoint,
)
from core.db import Database, database_now
from core.errors import LeaseLost, StorageForbidden, StorageFull, TuneyardError, Unavailable
from core.events import NewEvent, read_metrics
from core.failure import Failure
from core.full import is_full
from core.models import Job
from core.queue import Lease, held_job
from core.states import EventKind, FailureReason, Level
from core.storage import CorruptObject, Storage
from worker.card import Facts, write_card
from worker.recorder import Recorder

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 30.0
FORBIDDEN_TRIES = 3
"""Keys that were just made may take a moment to be known everywhere."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A complete checkpoint folder in scratch."""

    step: int
    folder: Path
    metrics: dict[str, Any]


class Publisher:
    """Publishes the checkpoints of one attempt, in order, from a thread of its own.

    A checkpoint is visible only when all of its bytes are stored and were looked at again. Storage
    or database being away is waited for; `lost` means that the attempt has lost its job.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        lease: Lease,
        *,
        recorder: Recorder,
        on_published: Callable[[int], None],
        full_seconds: float,
    ):
        self._database = database
        self._storage = storage
        self._lease = lease
        self._recorder = recorder
        self._on_published = on_published
        self._full_seconds = full_seconds
        self._queue: queue.Queue[Finished | None] = queue.Queue()
        self._stop = threading.Event()
        self.lost = threading.Event()
        self.failure: Failure | None = None
        """Why nothing more can be published."""
        self.last_step: int | None = None
        """Step of the newest published checkpoint of this attempt."""
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def add(self, checkpoint: Finished) -> None:
        """Take a checkpoint to publish; returns at once."""
        self._queue.put(checkpoint)

    def finish(self) -> None:
        """No more are coming: the thread ends when all are published. See `is_done`."""
        self._queue.put(None)

    @property
    def is_behind(self) -> bool:
        """Whether finished checkpoints wait for one that is being published."""
        return not self._queue.empty()

    @property
    def is_done(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Give up what is not published, and stop."""
        self._stop.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set() and not self.lost.is_set() and self.failure is None:
            checkpoint = self._queue.get()
            if checkpoint is None:
                return
            try:
                self._persist(checkpoint)
            except Exception as error:
                # With the thread gone in silence, the job would seem to be published.
                if not isinstance(error, OSError) or not is_full(error):
                    logger.exception("checkpoint of step %d not published", checkpoint.step)
                self.failure = _unexpected(error)

    def _persist(self, checkpoint: Finished) -> None:
        wait, tries, began = FIRST_RETRY_SECONDS, 0, time.monotonic()
        while not self._stop.is_set():
            tries += 1
            try:
                self._publish(checkpoint)
            except LeaseLost:
                self.lost.set()
                return
            except (Unavailable, CorruptObject) as error:
                self.failure = self._give_up(error, tries, time.monotonic() - began)
                if self.failure is not None:
                    return
                if tries == 1:
                    self._tell_waiting(checkpoint, error)
                logger.warning("checkpoint of step %d waits: %s", checkpoint.step, error.message)
                self._stop.wait(wait)
                wait = min(wait * 2, MAX_RETRY_SECONDS)
            else:
                self.last_step = checkpoint.step
                shutil.rmtree(checkpoint.folder, ignore_errors=True)
                self._on_published(checkpoint.step)
                return

    def _give_up(self, error: TuneyardError, tries: int, seconds: float) -> Failure | None:
        """The failure of what waiting does not mend."""
        if isinstance(error, StorageForbidden) and tries >= FORBIDDEN_TRIES:
            return Failure(reason=FailureReason.STORAGE_FORBIDDEN, message=error.message)
        if isinstance(error, StorageFull) and seconds > self._full_seconds:
            return Failure(reason=FailureReason.STORAGE_FULL, message=error.message)
        return None

    def _tell_waiting(self, checkpoint: Finished, error: TuneyardError) -> None:
        event = NewEvent(
            kind=EventKind.MESSAGE,
            level=Level.WARN,
            message=f"The checkpoint of step {checkpoint.step} waits to be stored: {error.message}",
            data={"step": checkpoint.step, "code": error.code},
        )
        self._recorder.add(event)

    def _publish(self, checkpoint: Finished) -> None:
        # The metrics up to this step come first: a resume from here must find them recorded, and
        # the card shows them.
        if not self._recorder.barrier():
            raise LeaseLost
        self._add_card(checkpoint)
        manifest = self._store(checkpoint)
        with self._database.write() as session:
            publish_checkpoint(
                session,
                self._lease,
                step=checkpoint.step,
                manifest=manifest,
                metrics=checkpoint.metrics,
                now=database_now(session),
            )
            surplus = drop_surplus(session, held_job(session, self._lease))
        for prefix in surplus:
            self._forget(prefix)

    def _forget(self, prefix: str) -> None:
        try:
            self._storage.delete_prefix(prefix)
        except Unavailable as error:
            # Nobody reads it any more; the worker sweeps the storage now and then.
            logger.warning("%s stays for now: %s", prefix, error.message)

    def _add_card(self, checkpoint: Finished) -> None:
        with self._database.read() as session:
            job = session.get(Job, self._lease.job_id)
            if job is None:
                raise LeaseLost
            columns = read_metrics(session, job.id)
            write_card(checkpoint.folder, Facts(job, checkpoint.step, checkpoint.metrics, columns))

    def _store(self, checkpoint: Finished) -> list[ManifestEntry]:
        prefix = checkpoint_prefix(self._lease.job_id, self._lease.attempt, checkpoint.step)
        manifest = []
        for path in sorted(checkpoint.folder.rglob("*")):
            if not path.is_file():
                continue
            name = path.relative_to(checkpoint.folder).as_posix()
            stored = self._storage.put_file(f"{prefix}/{name}", path)
            self._storage.verify(stored)
            manifest.append(ManifestEntry(name, stored.size, stored.sha256, part_of(name)))
        return manifest


def disk_full() -> Failure:
    """The failure of an attempt whose worker could not write to its scratch disk."""
    return Failure(
        reason=FailureReason.DISK_FULL, message="The scratch disk of the worker is full."
    )


def _unexpected(error: Exception) -> Failure:
    if isinstance(error, OSError) and is_full(error):
        return disk_full()
    return Failure(
        reason=FailureReason.INTERNAL,
        message=f"A checkpoint could not be published: {type(error).__name__}.",
    )
