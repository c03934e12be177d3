"""How soon a job trains again after each fault, and how soon its user sees that.

    python benchmarks/recovery.py --rounds 3

Method: two warm workers with one slot each, a lease of 2 s, looked for every 0.5 s; a tiny Llama,
a checkpoint every 25 steps. Each fault is done to a job of its own after its 60th step, while a
client follows the job's stream and connects again when it breaks off. From the moment of the
injection: `next step` until another step is trained, by the worker's clock; `caught up` until a
step beyond those before the fault is; `seen` until the client is told of that. `steps` is
`caught up` in steps of the same job. What is away (database, storage) is away for 2 s. A dead
worker is noticed by its lease: with another LEASE_SECONDS those rows change by the difference.
Medians.
"""

import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import Report, parser_of
from core.models import Event, Job
from core.states import EventKind
from tests.chaos.run import upload
from tests.chaos.user import Follower
from tests.chaos.world import WORKERS, World, running_world
from tests.servers.leftovers import adopt_orphans

AWAY_SECONDS = 2.0
FIRST_STEP = 60
STEPS_AFTER = 100
TRAINING = {
    "max_steps": 100_000,
    "logging_steps": 1,
    "save_steps": 25,
    "save_total_limit": 2,
    "max_length": 48,
    "per_device_train_batch_size": 2,
}
Fault = Callable[[World, str], None]


@dataclass(frozen=True)
class Recovery:
    """Seconds from the injection, and the time of a step."""

    next_step: float
    caught_up: float
    seen: float
    step_seconds: float


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    adopt_orphans()
    runs: dict[str, list[Recovery]] = {}
    for kind, faults in FAULTS.items():
        with tempfile.TemporaryDirectory() as folder, running_world(kind, Path(folder)) as world:
            body = {"model": "local/tiny-llama", "training_file": upload(world)}
            _once(world, body | {"training": TRAINING}, _nothing)
            for _ in range(given.rounds):
                for name, fault in faults.items():
                    found = _once(world, body | {"training": TRAINING}, fault)
                    runs.setdefault(name, []).append(found)
    report(runs).show(as_json=given.json)


def _once(world: World, body: dict[str, Any], fault: Fault) -> Recovery:
    """Do a fault to a job of its own, when both workers are ready for it."""
    world.wait_until_warm()
    with Follower(world.service.url) as follower:
        job_id = follower.submit(body)
        steps = _steps(follower, job_id)
        last = next(step for _, step in steps if step >= FIRST_STEP)
        owner = _owner(world, job_id)
        before = time.time()
        thread = threading.Thread(target=fault, args=(world, owner))
        thread.start()
        heard = list(takewhile(lambda each: each[1] <= last + STEPS_AFTER, steps))
        thread.join()
        follower.cancel(job_id)
    return _recovery(_trained(world, job_id), heard, before)


def _steps(follower: Follower, job_id: str) -> Iterator[tuple[float, int]]:
    """When the client heard of each step."""
    for event in follower.events(job_id):
        if event["type"] == "metrics":
            yield time.time(), event["data"]["step"]
    raise SystemExit(f"{job_id} ended by itself")


def _owner(world: World, job_id: str) -> str:
    with world.database.read() as session:
        return session.get_one(Job, job_id).lease_owner or WORKERS[0]


def _trained(world: World, job_id: str) -> list[tuple[int, float, int]]:
    """Attempt, moment and number of each trained step."""
    query = select(Event).where(Event.job_id == job_id, Event.kind == EventKind.METRICS)
    with world.database.read() as session:
        events = session.scalars(query.order_by(Event.seq))
        return [(e.attempt, e.created_at.timestamp(), e.data["step"]) for e in events]


def _recovery(
    trained: list[tuple[int, float, int]], heard: list[tuple[float, int]], before: float
) -> Recovery:
    # An attempt that is told to leave ends its step; what counts is the one that goes on.
    newest = max(attempt for attempt, _, _ in trained)
    reached = max(step for attempt, at, step in trained if at < before or attempt < newest)
    after = [(at, step) for attempt, at, step in trained if at > before and attempt == newest]
    gaps = [late - early for (_, early, _), (_, late, _) in pairwise(trained) if late < before]
    return Recovery(
        min(at for at, _ in after) - before,
        min(at for at, step in after if step > reached) - before,
        min(at for at, step in heard if step > reached) - before,
        statistics.median(gaps),
    )


def _nothing(world: World, owner: str) -> None:
    """The time of a step alone."""


def _kill_child(world: World, owner: str) -> None:
    for child in world.training_children(owner):
        child.kill()


def _freeze_child(world: World, owner: str) -> None:
    for child in world.training_children(owner):
        child.suspend()


def _kill_worker(world: World, owner: str) -> None:
    world.service.kill(owner)
    world.service.start_worker(owner)


def _stop_worker(world: World, owner: str) -> None:
    world.service.stop(owner)
    world.service.start_worker(owner)


def _freeze_worker(world: World, owner: str) -> None:
    process = world.service.processes[owner]
    process.send_signal(signal.SIGSTOP)
    _stay_away(5.0)
    process.send_signal(signal.SIGCONT)


def _kill_api(world: World, owner: str) -> None:
    world.service.kill("api")
    world.service.start_api()


def _kill_broker(world: World, owner: str) -> None:
    world.service.kill("broker")
    world.service.start_broker()


def _flush_broker(world: World, owner: str) -> None:
    with redis.Redis.from_url(world.service.environment["REDIS_URL"]) as client:
        client.flushall()


def _restart_database(world: World, owner: str) -> None:
    assert world.postgres is not None
    world.postgres.crash()
    _stay_away(AWAY_SECONDS)
    world.postgres.start()


def _kill_storage(world: World, owner: str) -> None:
    assert world.s3 is not None
    world.s3.stop()
    _stay_away(AWAY_SECONDS)
    world.s3.start()


def _stay_away(seconds: float) -> None:
    threading.Event().wait(seconds)


FAULTS: dict[str, dict[str, Fault]] = {
    "sqlite": {
        "none": _nothing,
        "training process killed": _kill_child,
        "training process frozen (STALL_SECONDS=4)": _freeze_child,
        "worker killed": _kill_worker,
        "worker frozen for 5 s": _freeze_worker,
        "worker told to leave": _stop_worker,
        "API killed": _kill_api,
        "broker killed": _kill_broker,
        "broker flushed": _flush_broker,
    },
    "postgresql": {
        "PostgreSQL crashed, away for 2 s": _restart_database,
        "object storage killed, away for 2 s": _kill_storage,
    },
}


def report(runs: dict[str, list[Recovery]]) -> Report:
    """Medians by fault."""
    columns = ["fault", "next step (s)", "caught up (s)", "seen (s)", "steps", "rounds"]
    result = Report("Recovery after a fault", columns)
    for name, found in runs.items():
        values = [
            statistics.median(getattr(run, field) for run in found)
            for field in ("next_step", "caught_up", "seen", "step_seconds")
        ]
        steps = round(values[1] / values[3])
        result.rows.append([name, *values[:3], steps, len(found)])
    return result


if __name__ == "__main__":
    main()
