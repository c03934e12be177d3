"""The scratch folder of a worker process; those of processes that died are removed."""

import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import IO


class Scratch:
    """A folder of this process alone, marked as used by a lock for as long as the process lives."""

    def __init__(self, root: Path):
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root)
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock = _lock(root / f"{name}.lock")
        self.folder = root / name
        self.folder.mkdir()

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_name(f"{self.folder.name}.lock").unlink(missing_ok=True)
        self._lock.close()


def _lock(path: Path) -> IO[bytes]:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    return file


def _remove_abandoned(root: Path) -> None:
    for lock in root.glob("*.lock"):
        try:
            held = _lock(lock)
        except BlockingIOError:
            continue
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink(missing_ok=True)
        held.close()
