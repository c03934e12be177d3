"""A user of the service who does not give up: submits jobs, follows each to its end, changes mind.

What the service has promised to them is written down outside of it, for the checker.
"""

import json
import random
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from core.states import JobStatus

JOBS = "/v1/fine_tuning/jobs"
RETRY_SECONDS = 0.3
SILENT_SECONDS = 20
ENDED = (400, 409)
"""Answers to who comes too late: the job has ended, or is not paused any more."""
WHIMS = {"none": 10, "cancel": 2, "cancel and save": 2, "pause": 4, "delete": 3}


@dataclass
class Promise:
    """What the service has told about one job."""

    job_id: str
    whim: str
    status: JobStatus = JobStatus.SUCCEEDED
    """The end that it must come to."""
    is_deleted: bool = False
    seen: list[int] = field(default_factory=list)
    """Numbers of the events in the order in which they came."""


class Follower:
    """A client that tries again, whatever breaks off."""

    def __init__(self, url: str):
        self._client = httpx.Client(base_url=url, timeout=SILENT_SECONDS)
        self._pause = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def submit(self, body: dict[str, Any]) -> str:
        """Create one job, however often that has to be asked; its id."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        job_id: str = self.ask("POST", JOBS, json=body, headers=headers).json()["id"]
        return job_id

    def cancel(self, job_id: str, *, save: bool = False) -> bool:
        """Cancel a job; whether it was not too late."""
        answer = self.ask("POST", f"{JOBS}/{job_id}/cancel", params={"save": save}, fine=ENDED)
        return bool(answer.status_code == httpx.codes.OK)

    def events(self, job_id: str, seen: list[int] | None = None) -> Iterator[dict[str, Any]]:
        """The events of a job, each once, over as many connections as it takes.

        Their numbers go into `seen`.
        """
        numbers = [] if seen is None else seen
        is_over = False
        while not is_over:
            try:
                for event in self._stream(job_id, numbers):
                    yield event
                    is_over = JobStatus(event["data"].get("status", "queued")).is_terminal
            except httpx.TransportError:
                self._pause.wait(RETRY_SECONDS)

    def ask(self, method: str, url: str, *, fine: tuple[int, ...] = (), **more: Any) -> Any:
        """Ask until there is an answer; other refusals than those in `fine` are errors."""
        while True:
            try:
                answer = self._client.request(method, url, **more)
            except httpx.TransportError:
                self._pause.wait(RETRY_SECONDS)
                continue
            if answer.status_code in fine or not answer.is_error:
                return answer
            if not answer.is_server_error:
                raise AssertionError(f"{method} {url}: {answer.status_code} {answer.text}")
            self._pause.wait(RETRY_SECONDS)

    def _stream(self, job_id: str, seen: list[int]) -> Iterator[dict[str, Any]]:
        last = seen[-1] if seen else 0
        headers = {"accept": "text/event-stream", "last-event-id": str(last)}
        url = f"{JOBS}/{job_id}/events"
        with self._client.stream("GET", url, headers=headers) as answer:
            if answer.is_server_error:
                self._pause.wait(RETRY_SECONDS)
                return
            answer.raise_for_status()
            number = 0
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    number = int(value)
                elif name == "data":
                    seen.append(number)
                    event: dict[str, Any] = json.loads(value)
                    yield event | {"data": event.get("data") or {}}


class User(threading.Thread):
    """Submits one job after another until told to stop; the last one is followed to its end."""

    def __init__(self, url: str, *, body: dict[str, Any], seed: int, stop: threading.Event):
        super().__init__(name=f"user-{seed}", daemon=True)
        self._follower = Follower(url)
        self._body = body
        self._random = random.Random(seed)
        self._told_to_stop = stop
        self.promises: list[Promise] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        """Use the service."""
        try:
            with self._follower:
                while not self._told_to_stop.is_set():
                    self._one_job()
        except BaseException as error:
            self.error = error
            raise

    def _one_job(self) -> None:
        whim = self._random.choices(list(WHIMS), weights=list(WHIMS.values()))[0]
        moment = self._random.randint(1, self._body["training"]["max_steps"])
        promise = Promise(self._follower.submit(self._body), whim)
        self.promises.append(promise)
        for event in self._follower.events(promise.job_id, promise.seen):
            step = event["data"].get("step", 0) if event["type"] == "metrics" else 0
            if step >= moment:
                self._do(promise, whim)
                whim = "none"
            if event["data"].get("status") == JobStatus.PAUSED:
                self._follower.ask("POST", f"{JOBS}/{promise.job_id}/resume", fine=ENDED)
        if promise.whim == "delete":
            self._follower.ask("DELETE", f"{JOBS}/{promise.job_id}", fine=(404,))
            promise.is_deleted = True

    def _do(self, promise: Promise, whim: str) -> None:
        if whim == "pause":
            self._follower.ask("POST", f"{JOBS}/{promise.job_id}/pause", fine=ENDED)
        if whim.startswith("cancel"):
            save = whim == "cancel and save"
            if self._follower.cancel(promise.job_id, save=save):
                promise.status = JobStatus.CANCELLED
