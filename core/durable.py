"""Files of a local storage, as a database needs them: surely there, or surely gone."""

import os
import shutil
from pathlib import Path

from core.errors import StorageFull, Unavailable
from core.full import is_full


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it; no error when there is none."""
    if not folder.is_dir():
        return
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(f"The storage cannot delete {folder}: {error.strerror}") from error


def make_durable(path: Path, root: Path) -> None:
    """Write a file and its name down to the disk: obstore only renames.

    A row in the database will speak of these bytes, and a power cut must not undo them.
    """
    # Every folder up to the root may be new, and its name is kept by the one above it.
    above = path.parents[: len(path.relative_to(root).parts)]
    try:
        for one in (path, *above):
            _sync(one)
    except OSError as error:
        kind = StorageFull if is_full(error) else Unavailable
        raise kind(f"The storage cannot keep {path}: {error.strerror}") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
