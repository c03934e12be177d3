"""Starts what the service is compared with, and times what it prints."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from worker.machine import usable_cpus

BARE_SCRIPT = [sys.executable, str(Path(__file__).with_name("bare_script.py"))]


@dataclass(frozen=True)
class Moment:
    """When something happened in a process."""

    at: float
    """Seconds of a clock that only moves on."""
    cpu: float
    """Seconds of all cores that the process has used."""

    @classmethod
    def of(cls, pid: int) -> "Moment":
        """Now."""
        times = psutil.Process(pid).cpu_times()
        return cls(time.perf_counter(), times.user + times.system)


def peer_environment(home: Path) -> dict[str, str]:
    """The caller's environment, offline, with the threads that a training child has.

    Measure on a quiet machine: the idle threads of a peer spin, which helps it only there.
    """
    return os.environ | {
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(usable_cpus()),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def timed_lines(
    command: Sequence[str], *, environment: Mapping[str, str], text: str = ""
) -> Iterator[tuple[Moment, str]]:
    """Run a command with `text` as its input: its lines, and when they came.

    SystemExit with its last words when it fails.
    """
    said: list[str] = []
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text)
        process.stdin.close()
        for line in process.stdout:
            said.append(line)
            yield Moment.of(process.pid), line
    if process.returncode:
        raise SystemExit(f"{command[0]} failed:\n{''.join(said[-20:])}")
