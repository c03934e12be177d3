"""Runs one attempt: gathers inputs, starts the child, relays what it tells, ends it right."""

import logging
import os
import shutil
import time
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from threading import Event as Flag
from typing import Any

from core.db import Database, database_now
from core.errors import LeaseLost, StorageForbidden, StorageFull, Unavailable
from core.events import NewEvent, read_metrics
from core.failure import Failure, RetryPolicy
from core.files import NewFile
from core.full import is_full
from core.models import Job
from core.queue import (
    Lease,
    fail_attempt,
    stop_attempt,
    succeed_attempt,
)
from core.results import store_results
from core.settings import Settings
from core.states import EventKind, FailureReason, Level
from core.storage import Storage
from worker import verdict
from worker.advice import with_advice
from worker.disk import DiskWatch
from worker.forkserver import ChildHandle, start_child
from worker.inputs import InputError, Inputs, Interrupted
from worker.lease import LeaseKeeper
from worker.machine import Machine, is_sandboxed, oom_kills, resident_bytes, usable_cpus
from worker.publisher import Publisher, disk_full
from worker.recorder import Recorder
from worker.redaction import Redaction
from worker.relay import Relay
from worker.watchdog import Watchdog
from worker.wishes import Wishes

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
LOOK_SECONDS = 0.1
RETRY_SECONDS = 2.0
DUMP_SECONDS = 2.0


class Supervisor:
    """One attempt of one job, from claim to end, in the calling thread. Call `run` once."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        *,
        job: Job,
        lease: Lease,
        scratch: Path,
        leaving: Flag,
        machine: Machine,
    ):
        self._settings = settings
        self._database = database
        self._storage = storage
        self._job = job
        self._lease = lease
        self._scratch = scratch
        self._machine = machine
        self._keeper = LeaseKeeper(database, lease, lease_seconds=settings.lease_seconds)
        self._recorder = Recorder(database, lease, flush_seconds=settings.event_flush_seconds)
        self._publisher = Publisher(
            database,
            storage,
            lease,
            recorder=self._recorder,
            on_published=self._tell_published,
            full_seconds=settings.full_storage_seconds,
        )
        self._watchdog = Watchdog(
            start_seconds=settings.start_timeout_seconds, stall_seconds=settings.stall_seconds
        )
        self._disk = DiskWatch(
            settings,
            storage,
            scratch,
            checkpoint_bytes=(job.plan or {}).get("checkpoint_bytes"),
        )
        self._relay = Relay(
            self._recorder,
            self._publisher,
            self._watchdog,
            self._disk,
            step=job.step,
            redaction=Redaction.of(settings, scratch),
        )
        self._wishes = Wishes(
            settings,
            keeper=self._keeper,
            recorder=self._recorder,
            publisher=self._publisher,
            disk=self._disk,
            leaving=leaving,
            max_seconds=job.spec.get("max_seconds"),
        )
        self._inputs = Inputs(
            settings, database, storage, lease, check=self._check, on_log=self._relay.log
        )
        self._order: dict[str, Any] = {}
        self._child: ChildHandle | None = None
        self._asked_to_stop = False
        self._is_stalled = False
        self._oom_kills = oom_kills()
        self._peak_memory_bytes: int | None = None

    def run(self) -> None:
        """Run the attempt. Whatever happens, nothing of it is left on this machine."""
        try:
            self._run()
        except LeaseLost:
            logger.info("%s attempt %d lost its lease", self._lease.job_id, self._lease.attempt)
        finally:
            self._clean_up()

    def _run(self) -> None:
        try:
            self._recorder.add(phase="fetch")
            self._scratch.mkdir(parents=True)
            order = self._persist_inputs()
            self._train(order)
        except Interrupted:
            self._end_by_request()
        except InputError as error:
            self._end_by_failure(verdict.with_log(error.failure, self._relay))
        except OSError as error:
            if not is_full(error):
                raise
            self._end_by_failure(self._held(disk_full()))

    def _persist_inputs(self) -> dict[str, Any]:
        """Gather the inputs; a storage or database that is away is waited for."""
        while True:
            try:
                order = self._inputs.order(self._job, self._scratch)
            except StorageForbidden as error:
                raise InputError(
                    Failure(reason=FailureReason.STORAGE_FORBIDDEN, message=error.message)
                ) from error
            except Unavailable as error:
                logger.warning("inputs of %s wait: %s", self._lease.job_id, error.message)
                self._keeper.lost.wait(RETRY_SECONDS)
                self._check()
            else:
                slots = self._settings.worker_slots
                threads = max(1, usable_cpus() // slots)
                return order | {
                    "threads": threads,
                    "device": self._machine.device,
                    "lease_seconds": self._settings.lease_seconds,
                    "is_sandboxed": is_sandboxed(self._settings),
                }

    def _train(self, order: dict[str, Any]) -> None:
        self._order = order
        self._child = start_child(order)
        self._follow(self._child)
        if self._wishes.is_stop_at_once or (self._asked_to_stop and self._relay.ending is None):
            raise Interrupted
        self._conclude()

    def _follow(self, child: ChildHandle) -> None:
        """Relay everything the child says until it is gone, or is to be stopped at once."""
        sources: list[Any] = [child.control, child.log]
        # A child that hears nothing for as long as the lease ends itself.
        tick_seconds = min(TICK_SECONDS, self._settings.lease_seconds / 4)
        next_tick = 0.0
        while sources:
            ready = wait(sources, timeout=LOOK_SECONDS)
            if child.log in ready and not self._read_log(child):
                sources.remove(child.log)
            if child.control in ready and not self._read_message(child):
                sources.remove(child.control)
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + tick_seconds
                self._send({"type": "tick"})
                self._look_at_memory(child)
                self._disk.look()
            if self._publisher.is_behind:
                # The child waits for us, not we for it.
                self._watchdog.saw_life()
            if self._watchdog.is_stalled:
                self._end_stalled(child)
            if self._wishes.is_stop_at_once or self._publisher.failure is not None:
                child.kill()
                return
            self._pass_on_requests()
        child.process.join()

    def _look_at_memory(self, child: ChildHandle) -> None:
        held = resident_bytes(child.pid)
        if held is not None:
            self._peak_memory_bytes = max(held, self._peak_memory_bytes or 0)

    def _read_log(self, child: ChildHandle) -> bool:
        data = os.read(child.log.fileno(), 65536)
        self._relay.hear_log(data)
        return bool(data)

    def _read_message(self, child: ChildHandle) -> bool:
        try:
            message = child.receive()
        except (EOFError, OSError):
            return False
        self._relay.hear(message)
        if message["type"] == "data_report":
            self._keep_tokens()
        return True

    def _keep_tokens(self) -> None:
        """Later jobs, and later attempts of this one, need not make them again."""
        for made in (self._scratch / "tokens").glob("*"):
            self._inputs.tokens.keep(made)

    def _tell_published(self, step: int) -> None:
        self._send({"type": "published", "step": step})

    def _send(self, message: dict[str, Any]) -> None:
        if self._child is None:
            return
        try:
            self._child.send(message)
        except OSError:
            # The child is gone; reading from it tells how it ended.
            logger.debug("%s not delivered", message["type"])

    def _check(self) -> None:
        """Leave the gathering of inputs when somebody wants the attempt to end."""
        if self._wishes.is_stop_at_once or self._wishes.is_stop:
            raise Interrupted

    def _end_stalled(self, child: ChildHandle) -> None:
        """Let the child say where it hangs, as the last lines of its log, and end it."""
        self._is_stalled = True
        child.dump_stacks()
        until = time.monotonic() + DUMP_SECONDS
        while time.monotonic() < until and wait([child.log], timeout=LOOK_SECONDS):
            self._read_log(child)
        self._watchdog.saw_life()
        child.kill()

    def _pass_on_requests(self) -> None:
        if self._asked_to_stop or not self._wishes.is_stop:
            return
        self._asked_to_stop = True
        self._send({"type": "stop", "save": self._wishes.is_save})

    def _conclude(self) -> None:
        """The child is gone: judge by what it did, not by its exit code."""
        ending = self._relay.ending
        # Whatever ended it, the checkpoints that it finished are good.
        self._publisher.finish()
        while not self._publisher.is_done:
            self._keeper.lost.wait(LOOK_SECONDS)
            if self._wishes.is_stop_at_once:
                raise Interrupted
        if self._publisher.failure is not None:
            self._end_by_failure(self._held(self._publisher.failure))
            return
        if ending is None or ending["type"] == "failed":
            self._end_by_failure(self._judge(ending))
            return
        if ending["stopped"]:
            raise Interrupted
        self._settle()
        results = self._store_results()
        self._persist(
            lambda session, now: succeed_attempt(
                session,
                self._lease,
                now=now,
                trained_tokens=self._relay.trained_tokens,
                peak_memory_bytes=ending.get("peak_memory_bytes"),
                seconds_per_step=ending.get("seconds_per_step"),
                results=results,
            )
        )

    def _judge(self, ending: dict[str, Any] | None) -> Failure:
        failure = self._see_why(ending)
        if failure.reason is not FailureReason.OUT_OF_MEMORY:
            return failure
        asked = (self._job.spec.get("resources") or {}).get("memory")
        limit = asked or self._machine.memory_bytes
        return failure if limit is None else with_advice(failure, self._order, limit)

    def _see_why(self, ending: dict[str, Any] | None) -> Failure:
        assert self._child is not None
        traces = verdict.Traces(
            exit_code=self._child.process.exitcode,
            peak_memory_bytes=self._peak_memory_bytes,
            memory_limit_bytes=(self._job.spec.get("resources") or {}).get("memory"),
        )
        if ending is not None:
            failure = verdict.told(ending, self._relay, traces)
            is_full = failure.reason is FailureReason.DISK_FULL
            return replace(failure, hold=self._disk.hold_after_failure()) if is_full else failure
        if self._is_stalled:
            return verdict.stalled(self._relay, traces)
        is_killed = oom_kills() > self._oom_kills
        return verdict.died(self._relay, traces, is_killed_by_kernel=is_killed)

    def _held(self, failure: Failure) -> Failure:
        """A failure that lay outside of the child, with what the job is to wait for."""
        failure = verdict.with_log(failure, self._relay)
        if failure.reason is FailureReason.STORAGE_FULL:
            return replace(failure, hold=self._disk.hold_after_full_storage(failure.message))
        if failure.reason is FailureReason.DISK_FULL:
            return replace(failure, hold=self._disk.hold_after_failure())
        return failure

    def _end_by_request(self) -> None:
        if self._wishes.is_lost:
            raise LeaseLost
        if self._wishes.is_time_limit:
            self._end_by_failure(verdict.over_time(self._relay))
            return
        outcome, hold = self._wishes.outcome, self._wishes.hold
        self._settle()
        self._persist(
            lambda session, now: stop_attempt(session, self._lease, outcome, now=now, hold=hold)
        )

    def _end_by_failure(self, failure: Failure) -> None:
        event = NewEvent(
            kind=EventKind.MESSAGE,
            level=Level.ERROR,
            message=failure.message,
            data={"code": failure.reason.code, **(failure.evidence or {})},
        )
        self._recorder.add(event)
        self._settle()
        policy = RetryPolicy.of(self._settings)
        self._persist(
            lambda session, now: fail_attempt(session, self._lease, failure, now=now, policy=policy)
        )

    def _settle(self) -> None:
        """Everything told so far must be written before the attempt ends."""
        while not self._recorder.barrier(LOOK_SECONDS):
            if self._recorder.lost.is_set() or self._wishes.is_grace_over:
                raise LeaseLost

    def _store_results(self) -> NewFile | None:
        """Store the table of metrics; a job does not fail for want of it."""
        while not self._keeper.lost.is_set():
            try:
                with self._database.read() as session:
                    columns = read_metrics(session, self._lease.job_id)
                return store_results(self._storage, columns)
            except (StorageFull, StorageForbidden) as error:
                logger.warning("%s gets no results file: %s", self._lease.job_id, error.message)
                return None
            except Unavailable:
                self._keeper.lost.wait(RETRY_SECONDS)
        raise LeaseLost

    def _persist(self, write: Any) -> None:
        """Write the end of the attempt, however long the database is away."""
        while True:
            try:
                with self._database.write() as session:
                    write(session, database_now(session))
            except Unavailable:
                if self._wishes.is_grace_over:
                    # Others take the job when the lease is over.
                    raise LeaseLost from None
                self._keeper.lost.wait(min(RETRY_SECONDS, self._settings.lease_seconds))
            else:
                return

    def _clean_up(self) -> None:
        if self._child is not None:
            self._child.close()
        self._keeper.close()
        # The publisher waits for the recorder, and that one perhaps for the database.
        self._recorder.close()
        self._publisher.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
