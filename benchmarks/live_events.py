"""From an event's commit until 200 open streams have it.

    python benchmarks/live_events.py

Goal: p99 under 250 ms with 200 readers of one job.

Method: one API process; a process of its own writes 20 events a second under an attempt's lease and
puts into each the moment of its commit (a moment before it, so that nothing is hidden); another
process holds the streams as raw sockets and takes the time of each event on each of them. The
reference is the same with a single reader.
"""

import asyncio
import multiprocessing
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.api_process import DATABASES, empty_database, running_api
from benchmarks.report import Report, parser_of
from core.db import Database, database_now
from core.events import NewEvent
from core.queue import record
from core.states import EventKind
from tests.factories import make_attempt

GOAL_SECONDS = 0.250
RATE, WARM_SECONDS = 20.0, 2.0
SENT = re.compile(rb'"sent":([0-9.]+)')


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    given = parser.parse_args()
    result = Report(
        f"{RATE:.0f} events a second for {given.seconds:.0f} s",
        ["", "readers", "events seen", "median, ms", "p99, ms", "slowest, ms", "p99 of one reader"],
    )
    for kind in given.databases:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            home = Path(folder)
            url = stack.enter_context(empty_database(kind, home))
            streams = {"MAX_STREAMS_PER_KEY": str(given.readers)}
            api = stack.enter_context(running_api(home, url, RATE_LIMIT_PER_MINUTE="0", **streams))
            alone = measure(url, api.url, 1, given.seconds / 2)
            many = measure(url, api.url, given.readers, given.seconds)
            for readers, seconds in ((1, alone), (given.readers, many)):
                shown = [1000 * _quantile(seconds, share) for share in (0.5, 0.99, 1.0)]
                ratio = _quantile(seconds, 0.99) / _quantile(alone, 0.99)
                result.rows.append([kind, readers, len(seconds), *shown, ratio])
            slow = _quantile(many, 0.99)
            goal = f"{kind}: p99 under 250 ms: {1000 * slow:.0f} ms"
            result.goals.append((goal, slow < GOAL_SECONDS))
    result.show(as_json=given.json)


def measure(database_url: str, url: str, readers: int, seconds: float) -> list[float]:
    """How long each event took to each reader, the shortest first."""
    spawn = multiprocessing.get_context("spawn")
    told, job = spawn.Pipe(duplex=False)
    writer = spawn.Process(target=write_events, args=(database_url, seconds, job))
    writer.start()
    job_id = told.recv()
    found = asyncio.run(_read_all(url, job_id, readers, WARM_SECONDS + seconds))
    writer.join()
    expected = int(RATE * seconds) * readers
    if writer.exitcode or len(found) != expected:
        raise SystemExit(f"{len(found)} events were seen, {expected} were to be")
    return sorted(found)


def write_events(url: str, seconds: float, told: "multiprocessing.connection.Connection") -> None:
    """Write at a steady pace, for a job whose id is told first."""
    database = Database(url)
    with database.write() as session:
        job, lease = make_attempt(session, now=database_now(session))
    told.send(job.id)
    time.sleep(WARM_SECONDS)
    began = time.monotonic()
    for number in range(int(RATE * seconds)):
        time.sleep(max(0.0, began + number / RATE - time.monotonic()))
        data = {"step": number, "sent": time.time()}
        event = NewEvent(kind=EventKind.METRICS, message="a step", data=data)
        with database.write() as session:
            record(session, lease, [event], now=database_now(session))
    database.close()


async def _read_all(url: str, job_id: str, readers: int, seconds: float) -> list[float]:
    found: list[float] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(readers):
            group.create_task(_read(url, job_id, seconds, found))
    return found


async def _read(url: str, job_id: str, seconds: float, found: list[float]) -> None:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"GET /v1/fine_tuning/jobs/{job_id}/events HTTP/1.1\r\nhost: {host}\r\n"
        "accept: text/event-stream\r\n\r\n".encode()
    )
    try:
        async with asyncio.timeout(seconds + 2):
            while line := await reader.readline():
                if (sent := SENT.search(line)) is not None:
                    found.append(time.time() - float(sent[1]))
    except TimeoutError:
        pass
    finally:
        writer.close()


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    main()
