"""Runs a module in a process of its own, whose memory is free when it has ended."""

import signal
import subprocess
import sys

from examples.demo.failure import DemoFailure

STOP_SECONDS = 15


def run_module(name: str, *arguments: str) -> None:
    """Run `python -m name`; DemoFailure with its last words when it fails."""
    process = subprocess.Popen(
        [sys.executable, "-m", name, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # it hears of Ctrl-C from us, once, and can clean up
    )
    try:
        _, said = process.communicate()
    except BaseException:
        _stop(process)
        raise
    if process.returncode:
        lines = said.strip().splitlines() or [f"It ended with code {process.returncode}."]
        raise DemoFailure(f"{name.rpartition('.')[2]} failed. {lines[-1]}")


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
