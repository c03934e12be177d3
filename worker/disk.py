"""Watches the disks of a worker, so that a training stops before they are full."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from core.room import UNPUBLISHED, Hold, Room
from core.settings import Settings
from core.storage import Storage

FULL_STORAGE_WAIT_SECONDS = 600.0
"""Object storage does not tell what room it has; it is tried again that often."""


def room_of(settings: Settings, storage: Storage) -> Room:
    """What jobs may write now: the reserve stays free."""
    scratch, stored = _free(settings, storage)
    reserve = settings.disk_reserve_bytes
    return Room(max(0, scratch - reserve), None if stored is None else max(0, stored - reserve))


def disk_facts(settings: Settings, storage: Storage) -> dict[str, int | None]:
    """The disks as the worker reports them."""
    room, total = room_of(settings, storage), storage.total_bytes()
    reserve = settings.disk_reserve_bytes
    return {
        "scratch_free_bytes": room.scratch_bytes,
        "scratch_total_bytes": shutil.disk_usage(settings.scratch_folder).total - reserve,
        "storage_free_bytes": room.storage_bytes,
        "storage_total_bytes": None if total is None else total - reserve,
    }


class DiskWatch:
    """Sees whether there is room for one more checkpoint of one attempt."""

    def __init__(
        self, settings: Settings, storage: Storage, scratch: Path, *, checkpoint_bytes: int | None
    ):
        self._settings = settings
        self._storage = storage
        self._scratch = scratch
        self._checkpoint_bytes = checkpoint_bytes or 0
        self.hold: Hold | None = None
        """Why the attempt must end, once it must."""
        self.can_save = True
        """Whether there is room for a last checkpoint."""

    def saw_checkpoint(self, folder: Path) -> None:
        """A checkpoint was finished; the next one will be as large."""
        self._checkpoint_bytes = _size(folder)

    def look(self) -> None:
        """Look at the disks, unless they were found to be too full before."""
        if self.hold is not None:
            return
        scratch, storage = _free(self._settings, self._storage)
        reserve, each = self._settings.disk_reserve_bytes, self._checkpoint_bytes
        # On one disk a checkpoint is there twice while it is published.
        needed = 2 * each if self._is_one_disk() else each
        if scratch - reserve < needed:
            self.hold = self._hold("scratch disk", scratch, scratch_bytes=needed)
        elif storage is not None and storage - reserve < each:
            self.hold = self._hold("storage", storage, storage_bytes=UNPUBLISHED * each)
        self.can_save = needed < (scratch if storage is None else min(scratch, storage))

    def hold_after_failure(self) -> Hold:
        """What to wait for after something could not be written to the scratch disk.

        Not even all that the attempt had, and what was free beside it, was enough.
        """
        free = shutil.disk_usage(self._settings.scratch_folder).free
        needed = (_size(self._scratch) + free) * 11 // 10 - self._settings.disk_reserve_bytes
        return Hold("The scratch disk of the worker is full.", scratch_bytes=max(0, needed))

    def hold_after_full_storage(self, message: str) -> Hold:
        """What to wait for after the storage had no room for too long."""
        return Hold(
            message,
            storage_bytes=UNPUBLISHED * self._checkpoint_bytes,
            wait_seconds=FULL_STORAGE_WAIT_SECONDS if self._storage.free_bytes() is None else 0,
        )

    def _hold(
        self, disk: str, free: int, *, scratch_bytes: int = 0, storage_bytes: int = 0
    ) -> Hold:
        if scratch_bytes:
            scratch_bytes += _size(self._scratch)
        message = (
            f"The {disk} is nearly full: {free / 1e9:,.2f} GB are free, and a checkpoint takes "
            f"{self._checkpoint_bytes / 1e9:,.2f} GB."
        )
        return Hold(message, scratch_bytes=scratch_bytes, storage_bytes=storage_bytes)

    def _is_one_disk(self) -> bool:
        stored = self._storage.local_path("any")
        if stored is None:
            return False
        return os.stat(stored.parent).st_dev == os.stat(self._settings.scratch_folder).st_dev


def _free(settings: Settings, storage: Storage) -> tuple[int, int | None]:
    return shutil.disk_usage(settings.scratch_folder).free, storage.free_bytes()


def _size(folder: Path) -> int:
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        try:
            yield path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            # The child and the publisher remove what they no longer need.
            continue
