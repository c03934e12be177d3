"""Breaks parts of a running service, by a seeded plan."""

import random
import signal
import threading
from collections import Counter
from collections.abc import Callable

import psutil
import redis

from tests.chaos.world import LEASE_SECONDS, WORKERS, World

MIB = 1024**2
STALL_SECONDS = LEASE_SECONDS + 1
AWAY_SECONDS = (0.5, 3.0)
"""How long a database, a storage or room on the disk is away."""

Harm = Callable[[], bool]


class Monkey:
    """Does one random harm after another until stopped, and counts them by kind."""

    def __init__(
        self,
        world: World,
        *,
        seed: int,
        pause_seconds: tuple[float, float] = (0.5, 2.5),
        only: tuple[str, ...] = (),
    ):
        self._world = world
        self._service = world.service
        self._random = random.Random(seed)
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self._only = only
        self.done: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Harm for so long; everything is running again afterwards."""
        timer = threading.Timer(seconds, self._stop.set)
        timer.start()
        harms = self._harms()
        names, weights = list(harms), [weight for _, weight in harms.values()]
        while not self._stop.wait(self._random.uniform(*self._pause_seconds)):
            name = self._random.choices(names, weights=weights)[0]
            self.done[name] += harms[name][0]()
        timer.join()

    def _harms(self) -> dict[str, tuple[Harm, int]]:
        """What can be done to this world, and how often."""
        harms: dict[str, tuple[Harm, int]] = {
            "child killed": (self._kill_child, 5),
            "child frozen": (self._freeze_child, 1),
            "worker killed": (self._kill_worker, 3),
            "worker frozen beyond its lease": (self._freeze_worker, 3),
            "worker told to leave": (self._stop_worker, 2),
            "API killed": (self._kill_api, 1),
            "API told to leave": (self._stop_api, 1),
            "broker killed": (self._kill_broker, 1),
            "broker flushed": (self._flush_broker, 2),
        }
        if self._world.postgres is not None:
            harms["database restarted"] = (self._restart_database, 2)
        if self._world.s3 is not None:
            harms["storage killed"] = (self._kill_storage, 1)
            harms["storage silent"] = (self._freeze_storage, 2)
        if self._world.disk is not None:
            harms["disk full"] = (self._fill_disk, 3)
        return {name: harm for name, harm in harms.items() if not self._only or name in self._only}

    def _kill_child(self) -> bool:
        return self._signal_child(signal.SIGKILL)

    def _freeze_child(self) -> bool:
        """Nobody wakes it: the watchdog has to find it."""
        return self._signal_child(signal.SIGSTOP)

    def _signal_child(self, number: signal.Signals) -> bool:
        children = self._world.training_children()
        if not children:
            return False
        try:
            self._random.choice(children).send_signal(number)
        except psutil.NoSuchProcess:
            return False
        return True

    def _kill_worker(self) -> bool:
        name = self._random.choice(WORKERS)
        self._service.kill(name)
        self._service.start_worker(name)
        return True

    def _stop_worker(self) -> bool:
        name = self._random.choice(WORKERS)
        self._service.stop(name)
        self._service.start_worker(name)
        return True

    def _kill_api(self) -> bool:
        self._service.kill("api")
        self._service.start_api()
        return True

    def _stop_api(self) -> bool:
        self._service.stop("api")
        self._service.start_api()
        return True

    def _kill_broker(self) -> bool:
        self._service.kill("broker")
        self._service.start_broker()
        return True

    def _flush_broker(self) -> bool:
        try:
            with redis.Redis.from_url(self._service.environment["REDIS_URL"]) as client:
                client.flushall()
        except redis.RedisError:
            # It is still starting after a kill.
            return False
        return True

    def _freeze_worker(self) -> bool:
        """Stop a worker for longer than its lease; its jobs are taken by another meanwhile."""
        busy = [name for name in WORKERS if self._world.training_children(name)]
        process = self._service.processes[self._random.choice(busy or WORKERS)]
        process.send_signal(signal.SIGSTOP)
        self._stop.wait(STALL_SECONDS)
        process.send_signal(signal.SIGCONT)
        return True

    def _restart_database(self) -> bool:
        assert self._world.postgres is not None
        self._world.postgres.crash()
        self._stay_away()
        self._world.postgres.start()
        return True

    def _kill_storage(self) -> bool:
        assert self._world.s3 is not None
        self._world.s3.stop()
        self._stay_away()
        self._world.s3.start()
        return True

    def _freeze_storage(self) -> bool:
        assert self._world.s3 is not None
        self._world.s3.process.send_signal(signal.SIGSTOP)
        self._stay_away()
        self._world.s3.process.send_signal(signal.SIGCONT)
        return True

    def _fill_disk(self) -> bool:
        """No byte is left for database, storage, scratch, logs and the broker's file."""
        assert self._world.disk is not None
        balloon = self._world.disk / "balloon"
        with balloon.open("wb", buffering=0) as file:
            for size in (MIB, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue
            self._stay_away()
        balloon.unlink()
        return True

    def _stay_away(self) -> None:
        self._stop.wait(self._random.uniform(*AWAY_SECONDS))
