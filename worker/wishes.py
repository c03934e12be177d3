"""Who wants an attempt to end before its training does, and how soon."""

import time
from threading import Event as Flag

from core.room import Hold
from core.settings import Settings
from core.states import Outcome
from worker.disk import DiskWatch
from worker.lease import LeaseKeeper
from worker.publisher import Publisher
from worker.recorder import Recorder


class Wishes:
    """Looks at the lease, the users' requests, the clock, the disks and a worker that leaves."""

    def __init__(
        self,
        settings: Settings,
        *,
        keeper: LeaseKeeper,
        recorder: Recorder,
        publisher: Publisher,
        disk: DiskWatch,
        leaving: Flag,
        max_seconds: float | None,
    ):
        self._keeper = keeper
        self._recorder = recorder
        self._publisher = publisher
        self._disk = disk
        self._leaving = leaving
        self._grace_seconds = settings.shutdown_grace_seconds
        self._leave_deadline: float | None = None
        self._deadline = time.monotonic() + max_seconds if max_seconds else None

    @property
    def is_lost(self) -> bool:
        """Whether another owner of the job has been seen."""
        parts = (self._keeper, self._recorder, self._publisher)
        return any(part.lost.is_set() for part in parts)

    @property
    def is_stop_at_once(self) -> bool:
        """Whether nothing of the attempt is wanted any more."""
        if self.is_lost or self.is_grace_over:
            return True
        requests = self._keeper.requests
        return requests.cancel and not requests.save

    @property
    def is_stop(self) -> bool:
        """Whether the attempt is to end at its next step boundary."""
        requests = self._keeper.requests
        asked = requests.cancel or requests.pause or self._leaving.is_set()
        return asked or self._is_over_time() or self._disk.hold is not None

    @property
    def is_save(self) -> bool:
        """Whether there is room for a last checkpoint."""
        return self._disk.can_save

    @property
    def hold(self) -> Hold | None:
        """What the job is to wait for, when that alone ends the attempt."""
        requests = self._keeper.requests
        if requests.cancel or requests.pause or self._leaving.is_set():
            return None
        return self._disk.hold

    @property
    def is_time_limit(self) -> bool:
        """Whether the attempt ends for its max_seconds and for nothing that a user asked."""
        requests = self._keeper.requests
        return self._is_over_time() and not (requests.cancel or requests.pause)

    @property
    def outcome(self) -> Outcome:
        """How an attempt ends that was stopped now."""
        requests = self._keeper.requests
        if requests.cancel:
            return Outcome.CANCELLED
        return Outcome.PAUSED if requests.pause or self.hold is not None else Outcome.RELEASED

    @property
    def is_grace_over(self) -> bool:
        """Whether the worker is leaving, and must be gone."""
        if not self._leaving.is_set():
            return False
        if self._leave_deadline is None:
            self._leave_deadline = time.monotonic() + self._grace_seconds
        return time.monotonic() > self._leave_deadline

    def _is_over_time(self) -> bool:
        return self._deadline is not None and time.monotonic() > self._deadline
