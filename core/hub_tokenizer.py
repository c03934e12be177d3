"""Tokenizers of the Hub's models, kept on disk by the commit that they are of."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from core.dataset.token_check import (
    CHAT_TEMPLATE,
    CONFIG,
    NO_TOKENIZER,
    SPECIAL_TOKENS,
    TOKENIZER,
)
from core.errors import InvalidArgument
from core.hub_client import HubClient, HubModel

FETCH_SECONDS = 60.0
LIMITS = {
    TOKENIZER: 64 * 1024**2,
    CONFIG: 8 * 1024**2,
    SPECIAL_TOKENS: 1024**2,
    CHAT_TEMPLATE: 1024**2,
}
"""Bytes of each file. The largest vocabularies of today make 35 MB."""
KEPT_FOLDERS = 32


class HubTokenizers:
    """The small files that a tokenizer is made of, fetched once for each commit."""

    def __init__(self, folder: Path, hub: HubClient):
        self._folder = folder
        self._client = hub

    @contextmanager
    def lent(self, name: str) -> Iterator[Path]:
        """A folder with the tokenizer of a model's newest commit, which stays meanwhile.

        ModelNotFound, Unavailable, or InvalidArgument where the model has no tokenizer.json.
        """
        folder = self._newest(name)
        # Others may make room between its being found and being locked.
        while (lock := _lock(folder, fcntl.LOCK_SH)) is None:
            folder = self._newest(name)
        try:
            os.utime(folder)
            yield folder
        finally:
            os.close(lock)

    def _newest(self, name: str) -> Path:
        with self._client.opened(name, seconds=FETCH_SECONDS) as model:
            commit = model.commit()
            folder = self._folder / f"{name.replace('/', '--')}@{_plain(commit)}"
            if not folder.exists():
                self._fetch(model, commit, folder)
        return folder

    def _fetch(self, model: HubModel, commit: str, folder: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make_room()
        staging = Path(mkdtemp(dir=self._folder, suffix=".partial"))
        lock = _lock(staging, fcntl.LOCK_SH)
        try:
            for path, limit in LIMITS.items():
                is_there = model.save(path, staging / path, limit, revision=commit)
                if path == TOKENIZER and not is_there:
                    raise InvalidArgument(NO_TOKENIZER, param="model")
            staging.rename(folder)
        except OSError:
            # Another request was first.
            if not folder.exists():
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if lock is not None:
                os.close(lock)

    def _make_room(self) -> None:
        """Leave room for one more; what is in use stays."""
        folders = sorted(self._folder.iterdir(), key=_used_at)
        for folder in folders[: max(0, len(folders) - KEPT_FOLDERS + 1)]:
            lock = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _lock(folder: Path, how: int) -> int | None:
    """Lock a folder until what is returned is closed; None where it is gone, or in use."""
    try:
        lock = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, how)
        if os.path.samestat(os.fstat(lock), folder.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def _used_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _plain(commit: str) -> str:
    """A commit as a name of a folder, whatever a server calls one."""
    return "".join(letter for letter in commit if letter.isalnum())[:64]
