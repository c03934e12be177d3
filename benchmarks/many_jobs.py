"""How long one waits for an answer with 10,000 jobs and 1,000,000 events, against 10 jobs.

    python benchmarks/many_jobs.py

Goal: at most 1.5 times the time with 10 jobs.

Method: two APIs over two databases of the same kind, one with 10 jobs, one with 10,000; each job
has 100 events, 60 of them metrics, 30 lines of log. Both are asked the same in turn (A B A B), one
request at a time over one connection; medians. `claim` and `poll` are what workers and open
streams ask of the database itself. `list by metadata` has no index and reads on until the page is
full: it is shown, and is not part of the goal.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.api_process import DATABASES, empty_database, running_api
from benchmarks.report import Report, parser_of
from core.db import Database
from core.jobs import watch_jobs
from core.models import Event, Job
from core.states import EventKind, JobStatus, Level
from core.waiting import best_queued, queue_places

JOBS = "/v1/fine_tuning/jobs"
FEW, EVENTS, QUEUED = 10, 100, 10
GOAL = 1.5
SCANNED = "list by metadata"
NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Side:
    """One of the two databases, and the API over it."""

    client: httpx.Client
    database: Database
    job: str
    """A job in the middle of all of them."""


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    given = parser.parse_args()
    result = Report(
        f"{given.jobs:,} jobs with {EVENTS} events each, against {FEW}",
        ["", "", "few, ms", "many, ms", "ratio"],
    )
    for kind in given.databases:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            few = _side(stack, kind, Path(folder) / "few", FEW)
            many = _side(stack, kind, Path(folder) / "many", given.jobs)
            for name, question in QUESTIONS.items():
                add_row(result, kind, name, few, many, question, given.rounds)
    worst = max(float(row[-1] or 0) for row in result.rows if row[1] != SCANNED)
    result.goals.append((f"at most {GOAL} times: {worst:.2f}", worst <= GOAL))
    result.show(as_json=given.json)


def _side(stack: ExitStack, kind: str, home: Path, jobs: int) -> Side:
    home.mkdir()
    url = stack.enter_context(empty_database(kind, home))
    database = Database(url)
    stack.callback(database.close)
    fill(database, jobs)
    api = stack.enter_context(running_api(home, url, RATE_LIMIT_PER_MINUTE="0"))
    client = stack.enter_context(api.client())
    return Side(client, database, job_id(jobs // 2))


def job_id(number: int) -> str:
    """The id of a job by its age, the oldest first."""
    return f"ftjob-{number:024x}"


def fill(database: Database, jobs: int) -> None:
    """Put jobs and their events into the tables; the last ones are still queued."""
    for first in range(0, jobs, 500):
        numbers = range(first, min(first + 500, jobs))
        with database.write() as session:
            session.execute(insert(Job), [_job(number, jobs) for number in numbers])
            session.execute(
                insert(Event), [_event(number, seq) for number in numbers for seq in range(EVENTS)]
            )
    with database.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
        connection.commit()


def _job(number: int, jobs: int) -> dict[str, Any]:
    at = NOW - timedelta(minutes=jobs - number)
    is_queued = number >= jobs - QUEUED
    return {
        "id": job_id(number),
        "status": JobStatus.QUEUED if is_queued else JobStatus.SUCCEEDED,
        "spec": {"model": "local/tiny", "training_file": "file-1"},
        "training": {"per_device_train_batch_size": 4},
        "model": "local/tiny",
        "base_model": "local/tiny",
        "training_file": "file-1",
        "seed": 42,
        "labels": {"number": str(number)},
        "max_attempts": 3,
        "created_at": at,
        "queued_at": at,
        "finished_at": None if is_queued else at,
        "event_seq": EVENTS,
    }


def _event(number: int, seq: int) -> dict[str, Any]:
    kinds = {0: EventKind.STATE, 1: EventKind.LOG, 2: EventKind.LOG, 3: EventKind.LOG}
    return {
        "job_id": job_id(number),
        "seq": seq + 1,
        "attempt": 1,
        "created_at": NOW,
        "level": Level.INFO,
        "kind": kinds.get(seq % 10, EventKind.METRICS),
        "message": f"Step {seq}: what was said of it",
        "data": {"step": seq, "train_loss": 1 / (seq + 1)},
    }


def _get(path: str, **params: Any) -> Callable[[Side], None]:
    def ask(side: Side) -> None:
        side.client.get(path.format(job=side.job), params=params).raise_for_status()

    return ask


def _label(side: Side) -> None:
    number = str(int(side.job.removeprefix("ftjob-"), 16))
    side.client.get(JOBS, params={"metadata[number]": number}).raise_for_status()


def _claim(side: Side) -> None:
    with side.database.read() as session:
        assert session.scalar(best_queued(session, now=NOW, room=None)) is not None


def _place(side: Side) -> None:
    with side.database.read() as session:
        job = session.scalar(best_queued(session, now=NOW, room=None))
        assert job is not None
        queue_places(session, [job], now=NOW)


def _poll(side: Side) -> None:
    with side.database.read() as session:
        watch_jobs(session, [side.job])


QUESTIONS: dict[str, Callable[[Side], None]] = {
    "list the newest jobs": _get(JOBS),
    SCANNED: _label,
    "read a job": _get(f"{JOBS}/{{job}}"),
    "newest events": _get(f"{JOBS}/{{job}}/events"),
    "metrics": _get(f"{JOBS}/{{job}}/metrics"),
    "end of the log": _get(f"{JOBS}/{{job}}/logs", tail=20),
    "claim": _claim,
    "place in the queue": _place,
    "poll": _poll,
}


def add_row(
    result: Report,
    kind: str,
    name: str,
    few: Side,
    many: Side,
    question: Callable[[Side], None],
    rounds: int,
) -> None:
    """Ask both in turn."""
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for number in range(rounds + 5):
        for index, side in enumerate((few, many)):
            began = time.perf_counter()
            question(side)
            if number >= 5:
                seconds[index].append(time.perf_counter() - began)
    medians = [1000 * statistics.median(seconds[index]) for index in (0, 1)]
    result.rows.append([kind, name, *medians, medians[1] / medians[0]])


if __name__ == "__main__":
    main()
