"""One worker machine: its slots, its idle poll, its rescue of lost jobs, its leaving."""

import logging
import random
import socket
import threading
import time
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from core.db import Database, database_now
from core.errors import StorageForbidden, Unavailable
from core.failure import RetryPolicy
from core.garbage import remove_garbage
from core.models import Worker
from core.queue import claim_job, rescue_jobs
from core.room import Room, reserved_bytes
from core.settings import Settings
from core.storage import Storage, open_storage
from core.waiting import count_claimable, resume_held_jobs
from core.workers import is_drained
from worker.disk import disk_facts, room_of
from worker.machine import Machine
from worker.scratch import Scratch
from worker.supervisor import Supervisor

logger = logging.getLogger(__name__)


class Runtime:
    """The part of a worker that outlives jobs. Threads of Celery and of its own call `work`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        machine: Machine | None = None,
    ):
        self._settings = settings
        self._database = database
        self._storage = storage
        self.name = settings.worker_name or socket.gethostname()
        self._slots = threading.BoundedSemaphore(settings.worker_slots)
        self._leaving = threading.Event()
        self._claiming = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._machine = machine or Machine(settings)
        self._was_cut_off = False
        self._no_rescue_before = 0.0
        self._scratch = Scratch(settings.scratch_folder / "attempts")

    @classmethod
    def from_settings(cls, settings: Settings) -> "Runtime":
        """Open the database and the storage; StorageForbidden when its keys are wrong."""
        storage = open_storage_of(settings)
        try:
            storage.check_access()
        except StorageForbidden:
            raise
        except Unavailable as error:
            logger.warning("the storage is away: %s", error.message)
        return cls(settings, Database(settings.database_url), storage)

    def start(self) -> None:
        """Begin to poll, rescue and report."""
        self._spawn(self._poll, "poll")

    def work(self) -> None:
        """Run jobs in this thread until there are none left, or no slot is free."""
        if not self._slots.acquire(blocking=False):
            return
        try:
            while not self._leaving.is_set() and self._run_next():
                pass
        except Unavailable as error:
            logger.warning("no job taken: %s", error.message)
        finally:
            self._slots.release()

    def leave(self) -> None:
        """Take no more jobs; those that run save and go back to the queue."""
        self._leaving.set()

    def join(self) -> None:
        """Wait until all threads of our own have ended, after `leave`."""
        for thread in self._threads:
            thread.join()
        self._scratch.close()
        self._database.close()

    def _run_next(self) -> bool:
        # One at a time, so that two jobs are not given the same memory.
        with self._claiming, self._database.write() as session:
            claimed = claim_job(
                session,
                worker=self.name,
                now=database_now(session),
                lease_seconds=self._settings.lease_seconds,
                room=self._room(session),
            )
        if claimed is None:
            return False
        job, lease = claimed
        logger.info("claimed %s, attempt %d", job.id, lease.attempt)
        Supervisor(
            self._settings,
            self._database,
            self._storage,
            job=job,
            lease=lease,
            scratch=self._scratch.folder / f"{job.id}-{lease.attempt}",
            leaving=self._leaving,
            machine=self._machine,
        ).run()
        self._sweep(job.id)
        return True

    def _sweep(self, job_id: str) -> None:
        """Remove what attempts of this job stored and never published."""
        try:
            with self._database.read() as session:
                removed = remove_garbage(session, self._storage, job_id)
        except Unavailable as error:
            logger.warning("storage of %s not swept: %s", job_id, error.message)
            return
        if removed:
            logger.info("removed %d unpublished checkpoints of %s", removed, job_id)

    def _poll(self) -> None:
        while not self._leaving.is_set():
            try:
                self._look()
            except Unavailable as error:
                logger.warning("database away: %s", error.message)
                self._was_cut_off = True
            except Exception:
                # A worker that no longer looks would seem alive and take nothing.
                logger.exception("looking for jobs failed")
            # Jitter keeps many workers from asking in step.
            self._leaving.wait(self._settings.poll_seconds * random.uniform(0.8, 1.2))

    def _look(self) -> None:
        began = time.monotonic()
        with self._database.write() as session:
            now = database_now(session)
            if self._was_cut_off or time.monotonic() - began > self._settings.lease_seconds / 3:
                self._put_off_rescue()
            room = self._room(session)
            waiting, rescued = 0, self._rescue(session, now)
            if not is_drained(session, self.name):
                resume_held_jobs(session, now=now, room=room)
                waiting = count_claimable(session, now=now, room=room)
            self._report(session, room)
        if rescued:
            logger.warning("rescued %d jobs of workers that died", rescued)
        for _ in range(min(waiting, self._settings.worker_slots)):
            self._spawn(self.work, "work")

    def _rescue(self, session: Session, now: datetime) -> int:
        if time.monotonic() < self._no_rescue_before:
            return 0
        return rescue_jobs(session, now=now, policy=RetryPolicy.of(self._settings))

    def _put_off_rescue(self) -> None:
        """After an outage all leases are over; their healthy owners get the time to renew them.

        They find the database again when this worker does, however long that takes them.
        """
        self._was_cut_off = False
        self._no_rescue_before = time.monotonic() + self._settings.lease_seconds

    def _room(self, session: Session) -> Room:
        """What jobs may still take here: running ones are to grow to what was planned."""
        room, machine = room_of(self._settings, self._storage), self._machine
        free, total = machine.free_bytes, machine.memory_bytes
        if free is None or total is None:
            return room
        planned = total - reserved_bytes(session, worker=self.name)
        return replace(room, memory_bytes=max(0, min(free, planned)))

    def _report(self, session: Session, room: Room) -> None:
        row = Worker(
            name=self.name,
            heartbeat_at=database_now(session),
            slots=self._settings.worker_slots,
            facts=self._machine.facts()
            | disk_facts(self._settings, self._storage)
            | {"memory_free_bytes": room.memory_bytes},
        )
        session.merge(row)

    def _spawn(self, target: Any, name: str) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)


def open_storage_of(settings: Settings) -> Storage:
    """The storage that the settings name."""
    return open_storage(
        settings.storage_url,
        s3_endpoint=settings.s3_endpoint,
        s3_access_key=settings.s3_access_key,
        s3_secret_key=settings.s3_secret_key,
        s3_region=settings.s3_region,
    )
