"""Hashes of the files in model folders: read once by a thread of their own, and kept."""

import hashlib
import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from core.errors import Unavailable

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""Clients of the Hub give up after 10 s."""

Mark = tuple[str, int, int]
"""Path, size and time of the last change: what tells one content of a file from the next."""


class HashIndex:
    """SHA-256 of files that others may replace, without ever reading one in a request.

    Known hashes survive in `file`, which several servers may share.
    """

    def __init__(self, file: Path, *, patience_seconds: float = PATIENCE_SECONDS):
        self._file = file
        self._patience_seconds = patience_seconds
        self._known = _load(file)
        self._wanted: dict[Mark, None] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def sha256(self, paths: Sequence[Path]) -> list[str]:
        """The hashes of these files. Unavailable while they are still being read."""
        marks = [_mark(path) for path in paths]
        with self._changed:
            self._wanted |= dict.fromkeys(mark for mark in marks if mark not in self._known)
            if self._wanted and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="hashes", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: all(mark in self._known for mark in marks), timeout=self._patience_seconds
            )
            left = [mark for mark in marks if mark not in self._known]
            if left:
                size = sum(mark[1] for mark in left) / 1e9
                raise Unavailable(
                    f"This model is read for the first time, {size:.1f} GB are left. Try again."
                )
            return [self._known[mark] for mark in marks]

    def close(self) -> None:
        """Stop reading; what is known is kept already."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or bool(self._wanted))
                if self._closing:
                    return
                mark = next(iter(self._wanted))
            digest = _digest(mark)
            with self._changed:
                del self._wanted[mark]
                if digest is not None:
                    self._known[mark] = digest
                is_last = not self._wanted
                self._changed.notify_all()
            if is_last:
                _save(self._file, self._known)


def _mark(path: Path) -> Mark:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


def _digest(mark: Mark) -> str | None:
    path = Path(mark[0])
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest if _mark(path) == mark else None
    except OSError as error:
        logger.warning("%s cannot be hashed: %s", path, error)
        return None


def _load(file: Path) -> dict[Mark, str]:
    try:
        rows = json.loads(file.read_bytes())
        return {(path, size, time): sha256 for path, size, time, sha256 in rows}
    except FileNotFoundError:
        return {}
    except ValueError as error:
        logger.warning("%s is damaged, the models are hashed again: %s", file, error)
        return {}


def _save(file: Path, known: dict[Mark, str]) -> None:
    staged = file.with_suffix(".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        staged.write_text(json.dumps([[*mark, sha256] for mark, sha256 in known.items()]))
        staged.replace(file)
    except OSError as error:
        # They are known until this server stops, and read again by the next one.
        logger.warning("%s cannot be written: %s", file, error)
