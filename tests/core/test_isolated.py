"""Hostile work sees its own files and nothing else, and ends when it takes too much."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from core import isolated
from core.errors import InvalidFile, Unavailable
from core.isolated import KEPT, Exhausted, Isolated, Limits, run_isolated
from core.sandbox import landlock_version

SMALL = Limits(seconds=20, memory_bytes=1024**3)
MODULE = "tests.core.hostile_work"
needs_walls = pytest.mark.skipif(landlock_version() == 0, reason="the kernel has no Landlock")


def _run(do: str, limits: Limits = SMALL, **more: Any) -> dict[str, Any]:
    reads = more.pop("reads", [])
    return run_isolated(MODULE, {"do": do, **more}, limits, reads=reads)


def test_it_reads_what_it_was_given(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("rows")

    assert _run("read", path=str(mine), reads=[mine]) == {"text": "rows"}


@needs_walls
@pytest.mark.parametrize("do", ["read", "write"])
def test_it_reads_and_writes_nothing_else(tmp_path: Path, do: str) -> None:
    other = tmp_path / "other"
    other.write_text("secret")

    with pytest.raises(RuntimeError, match="PermissionError"):
        _run(do, path=str(other))
    assert other.read_text() == "secret"


@needs_walls
def test_it_reaches_no_network() -> None:
    with pytest.raises(RuntimeError, match="PermissionError"):
        _run("connect", port=9)


@pytest.mark.skipif(landlock_version() < 6, reason="the kernel lets signals through")
def test_it_signals_nobody() -> None:
    with pytest.raises(RuntimeError, match="PermissionError"):
        _run("kill", pid=os.getpid())


def test_it_inherits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret of the environment, and of other work neither sockets nor files."""
    monkeypatch.setenv("TUNEYARD_API_KEY", "ty-secret")
    with Isolated(MODULE, {"do": "wait"}, SMALL):
        seen = _run("look")

    ours = {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TMPDIR", "LC_CTYPE"}
    assert set(seen["environment"]) <= {*KEPT, *ours}
    assert seen["descriptors"] == [0, 1, 2]


@pytest.mark.parametrize(("do", "what"), [("hold", "memory"), ("spin", "time"), ("wait", "time")])
def test_it_ends_when_it_takes_too_much(do: str, what: str) -> None:
    with pytest.raises(Exhausted) as caught:
        _run(do, Limits(seconds=1, memory_bytes=SMALL.memory_bytes))

    assert caught.value.what == what


def test_computing_is_limited_by_itself() -> None:
    with pytest.raises(Exhausted) as caught:
        _run("spin", Limits(seconds=60, memory_bytes=SMALL.memory_bytes, cpu_seconds=0.1))

    assert caught.value.what == "time"


def test_a_crash_is_taken_for_too_little_memory() -> None:
    """Native code that gets none ends like this; the next one is not harmed."""
    with pytest.raises(Exhausted) as caught:
        _run("crash")

    assert caught.value.what == "memory"
    assert _run("count") == {"bytes": 0}


def test_its_errors_are_ours() -> None:
    with pytest.raises(InvalidFile, match="line 3 is broken"):
        _run("refuse")


def test_it_is_fed_while_it_works() -> None:
    with Isolated(MODULE, {"do": "count"}, SMALL) as work:
        for _ in range(40):
            work.feed(bytes(1024**2))
        assert work.finish() == {"bytes": 40 * 1024**2}


@pytest.mark.parametrize(("do", "kind"), [("wait", Exhausted), ("crash", Exhausted)])
def test_whoever_feeds_it_never_waits_for_ever(do: str, kind: type[Exception]) -> None:
    limits = Limits(seconds=0.5, memory_bytes=SMALL.memory_bytes)

    with Isolated(MODULE, {"do": do}, limits) as work:
        for _ in range(40):
            work.feed(bytes(1024**2))
        with pytest.raises(kind):
            work.finish()


def test_it_ends_when_nobody_waits_for_it() -> None:
    _run("count")
    forker = psutil.Process(isolated.forker_pid())
    known = set(forker.children())
    with Isolated(MODULE, {"do": "wait"}, SMALL):
        while not (found := set(forker.children()) - known):
            os.sched_yield()

    found.pop().wait(20)


def test_many_work_at_the_same_time() -> None:
    found: list[dict[str, Any]] = []

    def run() -> None:
        with Isolated(MODULE, {"do": "count"}, SMALL) as work:
            work.feed(b"x" * 100_000)
            found.append(work.finish())

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [{"bytes": 100_000}] * 16


def test_the_process_that_is_forked_is_started_again() -> None:
    _run("count")
    process = isolated._FORKER._process
    assert process is not None
    with Isolated(MODULE, {"do": "wait"}, SMALL) as work:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(Unavailable):
            work.finish()

    assert _run("count") == {"bytes": 0}


def test_it_ends_with_the_process_that_asked() -> None:
    """Also when that is killed."""
    code = f"""
from core.isolated import Isolated, Limits, _FORKER
work = Isolated({MODULE!r}, {{"do": "wait"}}, Limits(20, 1024**3))
print(_FORKER._process.pid, flush=True)
work.finish()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        forker = int(asking.stdout.readline())
        watch = os.pidfd_open(forker)
        asking.kill()
    with os.fdopen(watch) as ended:
        assert select.select([ended], [], [], 20)[0]
