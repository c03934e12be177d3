"""Real jobs while everything around them is broken, for as long as one likes; `make chaos`.

    python benchmarks/chaos.py --seconds 600 --seed 1

Method: half of the time on SQLite with a folder as storage, all on one small disk; half on
PostgreSQL with S3 storage. Two workers, three users who submit one tiny job after another, follow
each to its end, and cancel, pause or delete some. Meanwhile, by a seeded plan: training processes,
workers, API, broker, database and storage are killed, told to leave, frozen (workers for longer
than their lease) and flushed, and the disk is filled. Then all comes to rest, and a checker reads
SQL, storage, scratch and the process table (tests/chaos/checker.py). Goal: no violation.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import Report, parser_of
from tests.chaos.monkey import Monkey
from tests.chaos.run import Bill, run_chaos, worker_logs
from tests.chaos.world import running_world
from tests.servers.leftovers import adopt_orphans, end_leftovers

KINDS = ("sqlite", "postgresql")
USERS = 3


def main() -> None:
    """Break things, and print what was broken and what came of it."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=KINDS, help="all of the time on this one")
    given = parser.parse_args()
    adopt_orphans()
    kinds = (given.only,) if given.only else KINDS
    bills = {kind: _run(kind, given.seconds / len(kinds), given.seed) for kind in kinds}
    report(bills, given.seed).show(as_json=given.json)
    if any(bill.violations for bill in bills.values()):
        raise SystemExit(1)


def _run(kind: str, seconds: float, seed: int) -> Bill:
    with tempfile.TemporaryDirectory() as folder:
        with running_world(kind, Path(folder)) as world:
            monkey = Monkey(world, seed=seed, pause_seconds=(1.0, 5.0))
            bill = run_chaos(world, monkey, seconds=seconds, users=USERS, seed=seed)
            if bill.violations:
                sys.stderr.write(worker_logs(world.home))
        bill.violations += end_leftovers(set())
    return bill


def report(bills: dict[str, Bill], seed: int) -> Report:
    """What was done and what came of it, by database."""
    result = Report(f"Chaos, seed {seed}", ["", *bills])
    groups = {"": "harms", "jobs: ": "jobs", "attempts: ": "attempts"}
    for prefix, group in groups.items():
        names = sorted({name for bill in bills.values() for name in getattr(bill, group)})
        for name in names:
            counts = [getattr(bill, group)[name] for bill in bills.values()]
            result.rows.append([prefix + name, *counts])
    result.rows.append(["events", *(bill.num_events for bill in bills.values())])
    result.rows.append(["checkpoints", *(bill.num_checkpoints for bill in bills.values())])
    result.rows.append(["violations", *(len(bill.violations) for bill in bills.values())])
    for kind, bill in bills.items():
        goal = f"no violation on {kind}: {bill.violations or 'none'}"
        result.goals.append((goal, not bill.violations))
    return result


if __name__ == "__main__":
    main()
