"""How long it takes to create a job, durably, at 50 requests a second.

    python benchmarks/create_jobs.py

Goal: 99 of 100 within 50 ms, on SQLite and on PostgreSQL. A job is committed when it is answered.

Method: a real API in a process of its own; requests leave by the clock, whether those before were
answered or not (an open loop: a slow answer delays no later request, and counts whole). The
reference is /healthz, asked the same way in the same run.
"""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.api_process import DATABASES, empty_database, running_api
from benchmarks.report import Report, parser_of

JOBS = "/v1/fine_tuning/jobs"
GOAL_SECONDS = 0.050
ROWS = b"".join(b'{"text": "row %d"}\n' % number for number in range(100))


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    given = parser.parse_args()
    result = Report(
        f"{given.rate:.0f} requests a second for {given.seconds:.0f} s",
        ["", "", "median, ms", "p99, ms", "slowest, ms", "of /healthz (median)"],
    )
    for kind in given.databases:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            home = Path(folder)
            url = stack.enter_context(empty_database(kind, home))
            (home / "models" / "tiny").mkdir(parents=True)
            (home / "models" / "tiny" / "config.json").write_text('{"model_type": "llama"}')
            places = {"MODEL_ROOTS": str(home / "models"), "RATE_LIMIT_PER_MINUTE": "0"}
            api = stack.enter_context(running_api(home, url, **places))
            asyncio.run(_measure(api.url, kind, given.rate, given.seconds, result))
    result.show(as_json=given.json)


async def _measure(url: str, kind: str, rate: float, seconds: float, result: Report) -> None:
    # The server ends a connection that was idle for five seconds, perhaps just as it is used.
    limits = httpx.Limits(max_connections=None, keepalive_expiry=2)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        sent = await client.post(
            "/v1/files", data={"purpose": "fine-tune"}, files={"file": ("rows.jsonl", ROWS)}
        )
        file = sent.json()["id"]

        async def create(number: int) -> httpx.Response:
            # No two are the same: equal ones wait for each other, lest one be done twice.
            body = {"model": "local/tiny", "training_file": file, "suffix": f"job-{number}"}
            return await client.post(JOBS, json=body)

        async def look(_: int) -> httpx.Response:
            return await client.get("/healthz")

        await _paced(create, rate, 1)
        reference = await _paced(look, rate, seconds / 2)
        created = await _paced(create, rate, seconds)
    middle = _quantile(created, 0.5) / _quantile(reference, 0.5)
    slow = _quantile(created, 0.99)
    shown = [1000 * _quantile(created, share) for share in (0.5, 0.99, 1.0)]
    result.rows.append([kind, "create a job", *shown, middle])
    shown = [1000 * _quantile(reference, share) for share in (0.5, 0.99, 1.0)]
    result.rows.append([kind, "/healthz", *shown, 1.0])
    goal = f"{kind}: 99 of 100 within 50 ms: {1000 * slow:.1f} ms"
    result.goals.append((goal, slow <= GOAL_SECONDS))


async def _paced(
    ask: Callable[[int], Awaitable[httpx.Response]], rate: float, seconds: float
) -> list[float]:
    """Seconds of each answer, counted from when its request was due."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(number: int) -> float:
        due = began + number / rate
        await asyncio.sleep(due - loop.time())
        (await ask(number)).raise_for_status()
        return loop.time() - due

    return sorted(await asyncio.gather(*(one(number) for number in range(int(rate * seconds)))))


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    main()
