"""Breaks parts of a running service, by a seeded plan."""

import os
import random
import signal
import threading
from collections import Counter

import psutil

from tests.servers.service import Service

PAUSE_SECONDS = (0.5, 2.0)


class Monkey:
    """Does one random harm after another until stopped, and counts them."""

    def __init__(self, service: Service, *, workers: list[str], seed: int, stall_seconds: float):
        self._service = service
        self._workers = workers
        self._random = random.Random(seed)
        self._stall_seconds = stall_seconds
        self._stop = threading.Event()
        self.done: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Harm for so long; everything is running again afterwards."""
        timer = threading.Timer(seconds, self._stop.set)
        timer.start()
        harms = [
            self._kill_child,
            self._kill_worker,
            self._kill_api,
            self._kill_broker,
            self._freeze,
        ]
        while not self._stop.wait(self._random.uniform(*PAUSE_SECONDS)):
            harm = self._random.choices(harms, weights=[4, 3, 1, 1, 2])[0]
            self.done[harm.__name__.removeprefix("_")] += harm()
        timer.join()

    def _kill_child(self) -> bool:
        children = training_children(self._service, self._workers)
        for child in children[:1]:
            child.kill()
        return bool(children)

    def _kill_worker(self) -> bool:
        name = self._random.choice(self._workers)
        self._service.kill(name)
        self._service.start_worker(name)
        return True

    def _kill_api(self) -> bool:
        self._service.kill("api")
        self._service.start_api()
        return True

    def _kill_broker(self) -> bool:
        self._service.kill("broker")
        self._service.start_broker()
        return True

    def _freeze(self) -> bool:
        """Stop a worker for longer than its lease; its jobs are taken by another meanwhile."""
        process = self._service.processes[self._random.choice(self._workers)]
        process.send_signal(signal.SIGSTOP)
        self._stop.wait(self._stall_seconds)
        process.send_signal(signal.SIGCONT)
        return True


def training_children(service: Service, workers: list[str]) -> list[psutil.Process]:
    """The forks that train: sessions of their own below a worker."""
    found: list[psutil.Process] = []
    for name in workers:
        try:
            below = psutil.Process(service.processes[name].pid).children(recursive=True)
            found += [child for child in below if os.getsid(child.pid) == child.pid]
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found
