"""Completion of names. Tab never waits for the network: it reads what an earlier run has kept.

What is older than a minute is still offered, and asked for again by a process of its own.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from cli.config import cache_folder, connection, write_private
from cli.errors import UserError

FRESH_SECONDS = 60.0


def complete_jobs(incomplete: str) -> list[str]:
    """Suffixes and ids of jobs."""
    return ["@last", *_kept("jobs")] if "@last".startswith(incomplete) else _kept("jobs")


def complete_files(incomplete: str) -> list[str]:
    """Ids of files."""
    return _kept("files")


def complete_models(incomplete: str) -> list[str]:
    """Names of models."""
    return _kept("models")


def complete_workers(incomplete: str) -> list[str]:
    """Names of workers."""
    return _kept("workers")


def refresh(get: Callable[..., Any], url: str) -> None:
    """Ask a server for all names, and keep them."""
    jobs = get("/v1/fine_tuning/jobs", limit=100)["data"]
    suffixes = [job["user_provided_suffix"] for job in jobs if job["user_provided_suffix"]]
    names = {
        "jobs": [*dict.fromkeys(suffixes), *(job["id"] for job in jobs)],
        "files": [file["id"] for file in get("/v1/files", limit=100)["data"]],
        "models": [model["id"] for model in get("/v1/models")["data"]],
        "workers": [worker["id"] for worker in get("/v1/workers")["data"]],
    }
    write_private(_file(url), json.dumps({"at": time.time(), "names": names}))


def _kept(kind: str) -> list[str]:
    try:
        url = connection().url
        kept = json.loads(_file(url).read_text())
        names, age = [str(name) for name in kept["names"][kind]], time.time() - kept["at"]
    except (UserError, OSError, ValueError, KeyError, TypeError):
        names, age = [], FRESH_SECONDS
    if age >= FRESH_SECONDS:
        _refresh_elsewhere()
    return names


def _refresh_elsewhere() -> None:
    # A variable that asks for completion would make the other process complete, too.
    environment = {name: text for name, text in os.environ.items() if "_COMPLETE" not in name}
    with contextlib.suppress(OSError):
        subprocess.Popen(
            [sys.executable, "-P", "-m", "cli.names"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )


def _file(url: str) -> Path:
    return cache_folder() / f"names-{sha256(url.encode()).hexdigest()[:16]}.json"
