"""What counts as hanging depends on how fast the job was."""

from worker.watchdog import Watchdog


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make() -> tuple[Watchdog, Clock]:
    clock = Clock()
    return Watchdog(start_seconds=100, stall_seconds=10, clock=clock), clock


def test_loading_has_its_own_limit() -> None:
    watchdog, clock = make()

    clock.now = 99
    assert not watchdog.is_stalled
    clock.now = 101
    assert watchdog.is_stalled


def test_quick_steps_are_missed_after_the_limit() -> None:
    watchdog, clock = make()
    for step in range(1, 5):
        clock.now += 0.1
        watchdog.saw_step(step)

    clock.now += 9
    assert not watchdog.is_stalled
    clock.now += 2
    assert watchdog.is_stalled


def test_slow_steps_have_time() -> None:
    watchdog, clock = make()
    for step in range(1, 5):
        clock.now += 20
        watchdog.saw_step(step)

    clock.now += 150
    assert not watchdog.is_stalled
    clock.now += 20
    assert watchdog.is_stalled


def test_any_sign_of_life_counts() -> None:
    watchdog, clock = make()
    watchdog.saw_step(1)
    for _ in range(10):
        clock.now += 9
        watchdog.saw_life()

    assert not watchdog.is_stalled
