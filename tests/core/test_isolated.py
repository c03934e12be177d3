"""Hostile work sees its own files and nothing else, and ends when it takes too much."""

import os
import sys
from pathlib import Path

import pytest

from core.errors import InvalidFile
from core.isolated import Exhausted, Limits, run_isolated
from core.sandbox import landlock_version

SMALL = Limits(seconds=20, memory_bytes=1024**3)
WORK = """
import socket
from pathlib import Path
from core.errors import InvalidFile
from core.isolated import serve

def work(request):
    match request["do"]:
        case "read":
            return {"text": Path(request["path"]).read_text()}
        case "write":
            Path(request["path"]).write_text("x")
        case "connect":
            socket.create_connection(("127.0.0.1", request["port"]), timeout=5)
        case "hold":
            bytearray(8 * 1024**3)
        case "spin":
            while True:
                pass
        case "refuse":
            raise InvalidFile("line 3 is broken", param="file")
    return {}

if __name__ == "__main__":
    serve(work)
"""
needs_walls = pytest.mark.skipif(landlock_version() == 0, reason="the kernel has no Landlock")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that does what it is told."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "hostile_work.py").write_text(WORK)
    path = os.pathsep.join([str(tmp_path / "code"), *filter(None, sys.path)])
    monkeypatch.setenv("PYTHONPATH", path)
    return "hostile_work"


def test_it_reads_what_it_was_given(module: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("rows")

    answer = run_isolated(module, {"do": "read", "path": str(mine)}, SMALL, reads=[mine])

    assert answer == {"text": "rows"}


@needs_walls
@pytest.mark.parametrize("do", ["read", "write"])
def test_it_reads_and_writes_nothing_else(module: str, tmp_path: Path, do: str) -> None:
    other = tmp_path / "other"
    other.write_text("secret")

    with pytest.raises(RuntimeError, match="PermissionError"):
        run_isolated(module, {"do": do, "path": str(other)}, SMALL, reads=[])
    assert other.read_text() == "secret"


@needs_walls
def test_it_reaches_no_network(module: str) -> None:
    with pytest.raises(RuntimeError, match="PermissionError"):
        run_isolated(module, {"do": "connect", "port": 9}, SMALL, reads=[])


@pytest.mark.parametrize(("do", "what"), [("hold", "memory"), ("spin", "time")])
def test_it_ends_when_it_takes_too_much(module: str, do: str, what: str) -> None:
    limits = Limits(seconds=3, memory_bytes=SMALL.memory_bytes)

    with pytest.raises(Exhausted) as caught:
        run_isolated(module, {"do": do}, limits, reads=[])

    assert caught.value.what == what


def test_its_errors_are_ours(module: str) -> None:
    with pytest.raises(InvalidFile, match="line 3 is broken"):
        run_isolated(module, {"do": "refuse"}, SMALL, reads=[])
