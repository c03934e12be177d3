"""One process of the embedded service, under its guard."""

import sys
from functools import partial
from pathlib import Path

import psutil

from cli.embedded.broker import prepare_broker
from cli.embedded.part import Part
from tests.cli.conftest import environment_of, until

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def make_part(home: Path, code: str, *, grace_seconds: float = 5) -> Part:
    command = [sys.executable, "-c", code]
    return Part("part", command, home, environment_of(home), grace_seconds)


def test_a_command_that_will_not_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    part = make_part(tmp_path, STUBBORN, grace_seconds=0.1)
    part.start()
    until(lambda: part.last_lines() != "")
    child = int(part.last_lines())

    part.stop()

    assert part.wait() == 137
    until(lambda: not _is_alive(child))


def test_warnings_are_told_once_and_only_they(tmp_path: Path) -> None:
    lines = ["2026-01-01 10:00:00,000 INFO x: fine", "ERROR:    bad", "no WARNING in the middle"]
    part = make_part(tmp_path, f"print({chr(10).join(lines)!r})")
    part.start()
    part.wait()
    part.stop()

    assert part.new_warnings() == "part: ERROR:    bad"
    assert part.new_warnings() is None


def test_a_command_that_dies_at_once_is_started_later_and_later(tmp_path: Path) -> None:
    part = make_part(tmp_path, "raise SystemExit(3)")
    part.start()

    said = []
    for _ in range(2):
        dead = part.process
        part.wait()
        said.append(part.tend())
        until(partial(_has_restarted, part, dead))
    part.stop()

    assert said == [
        "part ended with code 3; starting it again in 1 s",
        "part ended with code 3; starting it again in 2 s",
    ]


def test_the_broker_keeps_its_password_off_the_command_line(tmp_path: Path) -> None:
    command, url = prepare_broker(tmp_path / "broker")

    password = url.split(":")[2].partition("@")[0]
    config = tmp_path / "broker" / "valkey.conf"
    assert password not in " ".join(command)
    assert f"requirepass {password}" in config.read_text()
    assert config.stat().st_mode & 0o077 == 0


def _has_restarted(part: Part, dead: object) -> bool:
    part.tend()
    return part.process is not dead


def _is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
