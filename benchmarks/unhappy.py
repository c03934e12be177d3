"""What the health check and the server's memory do while the server is treated badly.

    python benchmarks/unhappy.py

Goals: /healthz answers within 200 ms meanwhile; the server's peak of memory grows by at most
150 MB. Method: a real server over SQLite in a process of its own; a process of its own asks for
/healthz every 20 ms from before each abuse to its end. Peaks are the kernel's (VmHWM), so they
never fall from one line to the next.
"""

import asyncio
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx

from cli.embedded.broker import free_port
from core.db import Database
from core.migrate import upgrade

JOBS = "/v1/fine_tuning/jobs"
SLOW, SLOW_SECONDS, STREAMS, PARALLEL = 200, 5, 1000, 20

Abuse = Callable[[httpx.AsyncClient, int, str], Awaitable[Counter[int]]]


async def million_keys(client: httpx.AsyncClient, port: int, job: str) -> Counter[int]:
    """Bodies of a million keys, at the same time."""
    return await _posted(client, _body(10**6))


async def many_mistakes(client: httpx.AsyncClient, port: int, job: str) -> Counter[int]:
    """Bodies of as many unknown arguments as a body may hold, at the same time."""
    return await _posted(client, _body(80_000))


async def slow_heads(client: httpx.AsyncClient, port: int, job: str) -> Counter[int]:
    """Connections whose headers never end, a few bytes each second."""

    async def drip() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        for number in range(SLOW_SECONDS):
            writer.write(b"x-%d: a\r\n" % number)
            await writer.drain()
            await asyncio.sleep(1)
        writer.close()

    await asyncio.gather(*(drip() for _ in range(SLOW)))
    return Counter()


async def many_streams(client: httpx.AsyncClient, port: int, job: str) -> Counter[int]:
    """Streams of one job, all open at the same time."""
    headers = {"accept": "text/event-stream"}
    requests = [
        client.build_request("GET", f"{JOBS}/{job}/events", headers=headers) for _ in range(STREAMS)
    ]
    answers = await asyncio.gather(*(client.send(one, stream=True) for one in requests))
    await asyncio.gather(*(answer.aclose() for answer in answers))
    return Counter(answer.status_code for answer in answers)


def _body(keys: int) -> bytes:
    mistakes = b",".join(b'"k%d":1' % number for number in range(keys))
    return b'{"model":"local/tiny","training":{%s}}' % mistakes


async def _posted(client: httpx.AsyncClient, body: bytes) -> Counter[int]:
    posts = (client.post(JOBS, content=body) for _ in range(PARALLEL))
    return Counter(answer.status_code for answer in await asyncio.gather(*posts))


async def _abused(url: str, port: int, job: str, abuse: Abuse) -> Counter[int]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        return await abuse(client, port, job)


def _look(url: str, is_over: Event, slowest: Connection) -> None:
    """Ask until it is over, and tell the slowest answer in milliseconds."""
    seconds = 0.0
    with httpx.Client(base_url=url, timeout=60) as client:
        client.get("/healthz")
        slowest.send(0.0)
        while not is_over.is_set():
            began = time.perf_counter()
            client.get("/healthz").raise_for_status()
            seconds = max(seconds, time.perf_counter() - began)
            time.sleep(0.02)
    slowest.send(seconds * 1000)


def _measured(url: str, port: int, job: str, abuse: Abuse) -> tuple[Counter[int], float]:
    """What was answered, and the slowest look at the health meanwhile, in milliseconds."""
    spawn = multiprocessing.get_context("spawn")
    is_over = spawn.Event()
    slowest, told = spawn.Pipe(duplex=False)
    # A process of its own: the abuser's loop is too busy to take times.
    looker = spawn.Process(target=_look, args=(url, is_over, told))
    looker.start()
    slowest.recv()
    found = asyncio.run(_abused(url, port, job, abuse))
    is_over.set()
    looker.join()
    return found, slowest.recv()


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def _job(url: str) -> str:
    """A job that waits for ever: no worker is there."""
    for _ in range(200):
        try:
            httpx.get(f"{url}/healthz")
            break
        except httpx.TransportError:
            time.sleep(0.1)
    sent = httpx.post(
        f"{url}/v1/files", data={"purpose": "fine-tune"}, files={"file": b'{"text": "a"}\n'}
    ).json()
    body = {"model": "local/tiny", "training_file": sent["id"]}
    return str(httpx.post(f"{url}{JOBS}", json=body).json()["id"])


def main() -> None:
    """Run each, and print a line for it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with TemporaryDirectory(prefix="tuneyard-unhappy-") as home:
        (Path(home) / "models" / "tiny").mkdir(parents=True)
        (Path(home) / "models" / "tiny" / "config.json").write_text("{}")
        database = Database(f"sqlite:///{home}/tuneyard.db")
        upgrade(database)
        database.close()
        command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
        places = {"TUNEYARD_HOME": home, "MODEL_ROOTS": f"{home}/models"}
        server = subprocess.Popen(
            [*command, "--port", str(port), "--log-level", "error"],
            env=os.environ | places,
            stderr=subprocess.DEVNULL,
        )
        try:
            job = _job(url)
            print(f"{'before':14} peak {_peak(server.pid):6.0f} MB")
            for abuse in (million_keys, many_mistakes, slow_heads, many_streams):
                found, slowest = _measured(url, port, job, abuse)
                print(
                    f"{abuse.__name__:14} peak {_peak(server.pid):6.0f} MB, "
                    f"slowest health check {slowest:6.1f} ms, answers {dict(found)}"
                )
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
