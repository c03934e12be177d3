"""Real jobs while everything around them is killed, frozen, flushed and filled."""

from pathlib import Path

import pytest

from tests.chaos.monkey import Monkey
from tests.chaos.run import run_chaos
from tests.chaos.world import running_world

pytestmark = [pytest.mark.training, pytest.mark.process, pytest.mark.timeout(400)]

SEED = 20261123
SECONDS = 18
USERS = 3
TRIES = 3
"""On a busy machine no frozen worker may have had a job."""


@pytest.mark.every_database
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_promise_holds_whatever_is_broken(kind: str, tmp_path: Path) -> None:
    with running_world(kind, tmp_path) as world:
        monkey = Monkey(world, seed=SEED)

        bill = run_chaos(world, monkey, seconds=SECONDS, users=USERS, seed=SEED)

    print(bill)  # noqa: T201 - shown when the test fails
    assert bill.violations == []
    assert bill.harms.total() > 0
    assert bill.jobs["succeeded"] > 0


def test_without_the_fence_the_same_run_is_found_out(tmp_path: Path) -> None:
    """The control: frozen workers wake up, write over the others, and the checker says so."""
    found = (_violations_without_the_fence(tmp_path / str(number)) for number in range(TRIES))
    assert any(found)


def _violations_without_the_fence(home: Path) -> list[str]:
    home.mkdir()
    with running_world("sqlite", home, celery_app="tests.chaos.unfenced") as world:
        monkey = Monkey(world, seed=SEED, only=("worker frozen beyond its lease",))

        bill = run_chaos(world, monkey, seconds=SECONDS, users=1, seed=SEED)

    print(bill)  # noqa: T201 - shown when the test fails
    return bill.violations
