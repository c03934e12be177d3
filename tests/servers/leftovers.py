"""Finds processes that tests started and left behind."""

import ctypes
import sys
from multiprocessing import forkserver, resource_tracker

import psutil

from core import isolated

PR_SET_CHILD_SUBREAPER = 36
SHARED = ("postgres", "weed")
"""Names of servers that several tests share; they end with the session."""
END_SECONDS = 30
"""How long what has been told to end may take on a busy machine."""


def adopt_orphans() -> None:
    """Become the parent of every process below us whose own parent dies, as init would."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def running() -> set[int]:
    """The ids of all processes below this one."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


def end_leftovers(known: set[int]) -> list[str]:
    """End what is neither known nor shared and does not end by itself; what that was."""
    ours = {
        forkserver._forkserver._forkserver_pid,  # type: ignore[attr-defined]
        resource_tracker._resource_tracker._pid,  # type: ignore[attr-defined]
        isolated.forker_pid(),
    }
    below = psutil.Process().children(recursive=True)
    suspects = [process for process in below if process.pid not in known | ours]
    mine = [process for process in suspects if _is_at_work(process)]
    _, left = psutil.wait_procs(mine, timeout=END_SECONDS)
    found = [_described(process) for process in left]
    for process in left:
        process.kill()
    return found


def _is_at_work(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.name() not in SHARED
    except psutil.NoSuchProcess:
        return False


def _described(process: psutil.Process) -> str:
    with process.oneshot():
        return f"{process.pid} {' '.join(process.cmdline())[:200]} in {process.cwd()}"
