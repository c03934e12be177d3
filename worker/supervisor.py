"""Runs one attempt: gathers inputs, starts the child, relays what it tells, ends it right."""

import logging
import os
import shutil
import signal
import time
from collections import deque
from multiprocessing.connection import wait
from pathlib import Path
from threading import Event as Flag
from typing import Any

from core.db import Database, database_now
from core.errors import LeaseLost, Unavailable
from core.events import NewEvent
from core.models import Job
from core.queue import (
    Failure,
    Lease,
    RetryPolicy,
    fail_attempt,
    stop_attempt,
    succeed_attempt,
)
from core.settings import Settings
from core.states import EventKind, FailureReason, Level, Outcome
from core.storage import Storage
from worker.forkserver import ChildHandle, start_child
from worker.inputs import InputError, Inputs, Interrupted
from worker.lease import LeaseKeeper
from worker.loglines import LineSplitter
from worker.machine import is_sandboxed, oom_kills, training_device, usable_cpus
from worker.publisher import Finished, Publisher
from worker.recorder import Recorder
from worker.watchdog import Watchdog

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
LOOK_SECONDS = 0.1
EVIDENCE_LINES = 40
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
    ):
        self._settings = settings
        self._database = database
        self._job = job
        self._lease = lease
        self._leaving = leaving
        self._scratch = scratch
        self._leave_deadline: float | None = None
        self._keeper = LeaseKeeper(database, lease, lease_seconds=settings.lease_seconds)
        self._recorder = Recorder(database, lease, flush_seconds=settings.event_flush_seconds)
        self._publisher = Publisher(
            database, storage, lease, recorder=self._recorder, on_published=self._tell_published
        )
        self._inputs = Inputs(
            settings, database, storage, lease, check=self._check, on_log=self._log
        )
        self._child: ChildHandle | None = None
        self._lines = LineSplitter()
        self._evidence: deque[str] = deque(maxlen=EVIDENCE_LINES)
        self._ending: dict[str, Any] | None = None
        """The child's last word: `finished` or `failed`."""
        self._asked_to_stop = False
        self._step = job.step
        self._watchdog = Watchdog(
            start_seconds=settings.start_timeout_seconds, stall_seconds=settings.stall_seconds
        )
        max_seconds = job.spec.get("max_seconds")
        self._deadline = time.monotonic() + max_seconds if max_seconds else None
        self._is_stalled = False
        self._oom_kills = oom_kills()
        self._trained_tokens: int | None = None

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
            self._end_by_failure(error.failure)

    def _persist_inputs(self) -> dict[str, Any]:
        """Gather the inputs; a storage or database that is away is waited for."""
        while True:
            try:
                order = self._inputs.order(self._job, self._scratch)
            except Unavailable as error:
                logger.warning("inputs of %s wait: %s", self._lease.job_id, error.message)
                self._keeper.lost.wait(RETRY_SECONDS)
                self._check()
            else:
                slots = self._settings.worker_slots
                threads = max(1, usable_cpus() // slots)
                device = training_device(self._settings)
                return order | {
                    "threads": threads,
                    "device": device,
                    "lease_seconds": self._settings.lease_seconds,
                    "is_sandboxed": is_sandboxed(self._settings),
                }

    def _train(self, order: dict[str, Any]) -> None:
        self._child = start_child(order)
        self._follow(self._child)
        if self._must_stop_now() or (self._asked_to_stop and self._ending is None):
            raise Interrupted
        self._conclude()

    def _follow(self, child: ChildHandle) -> None:
        """Relay everything the child says until it is gone, or is to be stopped at once."""
        sources: list[Any] = [child.control, child.log]
        next_tick = 0.0
        while sources:
            ready = wait(sources, timeout=LOOK_SECONDS)
            if child.log in ready and not self._read_log(child):
                sources.remove(child.log)
            if child.control in ready and not self._read_message(child):
                sources.remove(child.control)
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + TICK_SECONDS
                self._send({"type": "tick"})
            if self._publisher.is_behind:
                # The child waits for us, not we for it.
                self._watchdog.saw_life()
            if self._watchdog.is_stalled:
                self._end_stalled(child)
            if self._must_stop_now():
                child.kill()
                return
            self._pass_on_requests()
        child.process.join()

    def _read_log(self, child: ChildHandle) -> bool:
        data = os.read(child.log.fileno(), 65536)
        for line in self._lines.feed(data) if data else self._lines.finish():
            self._log(line)
        return bool(data)

    def _read_message(self, child: ChildHandle) -> bool:
        try:
            message = child.receive()
        except (EOFError, OSError):
            return False
        self._watchdog.saw_life()
        handler = getattr(self, f"_on_{message['type']}")
        handler(message)
        return True

    def _on_phase(self, message: dict[str, Any]) -> None:
        self._recorder.add(phase=message["phase"])

    def _on_resolved(self, message: dict[str, Any]) -> None:
        facts = {key: value for key, value in message.items() if key != "type"}
        self._recorder.add(resolved=facts, total_steps=message["total_steps"])

    def _on_data_report(self, message: dict[str, Any]) -> None:
        report = {key: value for key, value in message.items() if key != "type"}
        self._recorder.add(data_report=report)

    def _on_metrics(self, message: dict[str, Any]) -> None:
        step, total = message["step"], message["total_steps"]
        data = {"step": step, "total_steps": total, **message["data"]}
        self._step = step
        self._trained_tokens = data.get("num_tokens", self._trained_tokens)
        event = NewEvent(kind=EventKind.METRICS, message=_metrics_line(data), data=data)
        self._recorder.add(event, step=step, total_steps=total)

    def _on_progress(self, message: dict[str, Any]) -> None:
        self._step = message["step"]
        self._watchdog.saw_step(self._step)
        self._recorder.add(step=message["step"], total_steps=message["total_steps"])

    def _on_checkpoint(self, message: dict[str, Any]) -> None:
        self._publisher.add(
            Finished(message["step"], Path(message["path"]), message.get("metrics", {}))
        )

    def _on_samples(self, message: dict[str, Any]) -> None:
        step = message["step"]
        event = NewEvent(
            kind=EventKind.SAMPLES,
            message=f"What the model answers at step {step}.",
            data={"step": step, "samples": message["samples"]},
        )
        self._recorder.add(event)

    def _on_finished(self, message: dict[str, Any]) -> None:
        self._ending = message
        self._step = message["step"]
        self._publisher.finish()

    def _on_failed(self, message: dict[str, Any]) -> None:
        self._ending = message

    def _log(self, line: str) -> None:
        for secret in self._settings.secrets:
            line = line.replace(secret, "***")
        self._evidence.append(line)
        self._recorder.add(NewEvent(kind=EventKind.LOG, message=line))

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
        if self._must_stop_now() or self._wants_to_stop():
            raise Interrupted

    def _must_stop_now(self) -> bool:
        lost = self._keeper.lost.is_set() or self._recorder.lost.is_set()
        if lost or self._publisher.lost.is_set():
            return True
        if self._leaving.is_set() and self._is_grace_over():
            return True
        requests = self._keeper.requests
        return requests.cancel and not requests.save

    def _is_grace_over(self) -> bool:
        if self._leave_deadline is None:
            self._leave_deadline = time.monotonic() + self._settings.shutdown_grace_seconds
        return time.monotonic() > self._leave_deadline

    def _wants_to_stop(self) -> bool:
        requests = self._keeper.requests
        asked = requests.cancel or requests.pause or self._leaving.is_set()
        return asked or self._is_over_time()

    def _is_over_time(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline

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
        if self._asked_to_stop or not self._wants_to_stop():
            return
        self._asked_to_stop = True
        self._send({"type": "stop", "save": True})

    def _conclude(self) -> None:
        """The child is gone: judge by what it did, not by its exit code."""
        ending = self._ending
        if ending is not None and ending["type"] == "failed":
            self._end_by_failure(self._failure(ending))
            return
        if ending is None:
            self._end_by_failure(self._death())
            return
        while not self._publisher.is_done:
            self._keeper.lost.wait(LOOK_SECONDS)
            if self._must_stop_now():
                raise Interrupted
        if ending["stopped"]:
            raise Interrupted
        self._settle()
        self._persist(
            lambda session, now: succeed_attempt(
                session,
                self._lease,
                now=now,
                trained_tokens=self._trained_tokens,
                peak_memory_bytes=ending.get("peak_memory_bytes"),
                seconds_per_step=ending.get("seconds_per_step"),
            )
        )

    def _failure(self, message: dict[str, Any]) -> Failure:
        return Failure(
            reason=FailureReason.of(message["code"]),
            message=message["message"],
            param=message.get("param"),
            evidence={
                "step": message.get("step", self._step),
                "in_evaluation": message.get("in_evaluation", False),
                "peak_memory_bytes": message.get("peak_memory_bytes"),
                "log": list(self._evidence),
            },
        )

    def _death(self) -> Failure:
        assert self._child is not None
        if self._is_stalled:
            return Failure(
                reason=FailureReason.STALLED,
                message=f"The training made no progress after step {self._step}.",
                evidence={"step": self._step, "log": list(self._evidence)},
            )
        code = self._child.process.exitcode
        if code == -signal.SIGKILL and oom_kills() > self._oom_kills:
            return Failure(
                reason=FailureReason.OUT_OF_MEMORY,
                message=f"The kernel killed the training at step {self._step} for want of memory.",
                evidence={"step": self._step, "exit_code": code, "log": list(self._evidence)},
            )
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return Failure(
            reason=FailureReason.CHILD_DIED,
            message=f"The training process died at step {self._step} ({how}).",
            evidence={"step": self._step, "exit_code": code, "log": list(self._evidence)},
        )

    def _end_by_request(self) -> None:
        if self._keeper.lost.is_set() or self._recorder.lost.is_set():
            raise LeaseLost
        requests = self._keeper.requests
        if self._is_over_time() and not (requests.cancel or requests.pause):
            self._end_by_failure(
                Failure(
                    reason=FailureReason.TIME_LIMIT,
                    message=f"max_seconds were over at step {self._step}; its checkpoint is kept.",
                )
            )
            return
        outcome = Outcome.RELEASED
        if requests.cancel:
            outcome = Outcome.CANCELLED
        elif requests.pause:
            outcome = Outcome.PAUSED
        self._settle()
        self._persist(lambda session, now: stop_attempt(session, self._lease, outcome, now=now))

    def _end_by_failure(self, failure: Failure) -> None:
        if failure.evidence:
            event = NewEvent(
                kind=EventKind.MESSAGE,
                level=Level.ERROR,
                message=failure.message,
                data={"code": failure.reason.code, **failure.evidence},
            )
            self._recorder.add(event)
        self._settle()
        policy = retry_policy(self._settings)
        self._persist(
            lambda session, now: fail_attempt(session, self._lease, failure, now=now, policy=policy)
        )

    def _settle(self) -> None:
        """Everything told so far must be written before the attempt ends."""
        if not self._recorder.barrier():
            raise LeaseLost

    def _persist(self, write: Any) -> None:
        """Write the end of the attempt, however long the database is away."""
        while True:
            try:
                with self._database.write() as session:
                    write(session, database_now(session))
            except Unavailable:
                self._keeper.lost.wait(RETRY_SECONDS)
            else:
                return

    def _clean_up(self) -> None:
        if self._child is not None:
            self._child.close()
        self._keeper.close()
        self._publisher.close()
        self._recorder.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


def retry_policy(settings: Settings) -> RetryPolicy:
    """How the queue starts failed jobs again, by the settings."""
    return RetryPolicy(
        max_lost_attempts=settings.max_lost_attempts,
        backoff_seconds=settings.retry_backoff_seconds,
    )


def _metrics_line(data: dict[str, Any]) -> str:
    """OpenAI's wording of a metrics event."""
    parts = [f"Step {data['step']}/{data['total_steps']}"]
    for name, words in (("train_loss", "training loss"), ("valid_loss", "validation loss")):
        if name in data:
            parts.append(f"{words}={data[name]:.4f}")
    return ": ".join([parts[0], ", ".join(parts[1:])]) if len(parts) > 1 else parts[0]
