"""Tells a training that hangs from one that is slow, by the job's own pace."""

import time
from collections import deque
from collections.abc import Callable

PACE_FACTOR = 8
"""A step may take so many times the slowest recent one."""
RECENT_STEPS = 50


class Watchdog:
    """Watches for signs of life of one child. `limit_seconds` is the least that it waits."""

    def __init__(
        self,
        *,
        start_seconds: float,
        stall_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._start_seconds = start_seconds
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._last = clock()
        self._step: int | None = None
        self._gaps: deque[float] = deque(maxlen=RECENT_STEPS)

    def saw_life(self) -> None:
        """The child did something that only a living one does."""
        self._last = self._clock()

    def saw_step(self, step: int) -> None:
        """The child has finished optimizer steps up to this one."""
        now = self._clock()
        if self._step is not None and step > self._step:
            self._gaps.append(now - self._last)
        self._step = step
        self._last = now

    @property
    def silence_seconds(self) -> float:
        """How long there was no sign of life."""
        return self._clock() - self._last

    @property
    def limit_seconds(self) -> float:
        """How long there may be none: for loading, or by the pace of the steps."""
        if self._step is None:
            return self._start_seconds
        return max(self._stall_seconds, PACE_FACTOR * max(self._gaps, default=0.0))

    @property
    def is_stalled(self) -> bool:
        """Whether the child hangs."""
        return self.silence_seconds > self.limit_seconds
