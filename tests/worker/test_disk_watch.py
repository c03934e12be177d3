"""When a worker finds its disks too full for one more checkpoint."""

import shutil
from pathlib import Path

import pytest

from core.settings import Settings
from core.storage import Storage, open_storage
from worker.disk import DiskWatch, room_of

MORE_THAN_ANY_DISK = 2**60
S3_KEYS = {"s3_access_key": "access", "s3_secret_key": "secret"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A worker whose disk is this machine's."""
    (tmp_path / "scratch").mkdir()
    return Settings(TUNEYARD_HOME=tmp_path, DISK_RESERVE_BYTES=1)


def watch(settings: Settings, storage: Storage, checkpoint_bytes: int | None) -> DiskWatch:
    scratch = settings.scratch_folder / "attempt"
    scratch.mkdir(exist_ok=True)
    disk = DiskWatch(settings, storage, scratch, checkpoint_bytes=checkpoint_bytes)
    disk.look()
    return disk


@pytest.mark.parametrize("checkpoint_bytes", [None, 1])
def test_with_room_nothing_is_held(
    settings: Settings, storage: Storage, checkpoint_bytes: int | None
) -> None:
    disk = watch(settings, storage, checkpoint_bytes)

    assert disk.hold is None
    assert disk.can_save


def test_with_no_room_beside_the_reserve_there_is_some_for_a_last_checkpoint(
    settings: Settings, storage: Storage
) -> None:
    """That is what the reserve is for."""
    greedy = settings.model_copy(update={"disk_reserve_bytes": MORE_THAN_ANY_DISK})

    disk = watch(greedy, storage, 1)

    assert disk.hold is not None
    assert "scratch disk is nearly full" in disk.hold.message
    assert disk.can_save
    assert room_of(greedy, storage).scratch_bytes == 0


def test_a_checkpoint_larger_than_the_disk_cannot_be_saved(
    settings: Settings, storage: Storage
) -> None:
    disk = watch(settings, storage, MORE_THAN_ANY_DISK)

    assert disk.hold is not None
    assert not disk.can_save


def test_a_finished_checkpoint_tells_how_large_the_next_one_is(
    settings: Settings, storage: Storage
) -> None:
    disk = watch(settings, storage, MORE_THAN_ANY_DISK // 2**20)
    folder = settings.scratch_folder / "attempt/checkpoint-5"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"12345")
    watched = DiskWatch(
        settings, storage, settings.scratch_folder, checkpoint_bytes=MORE_THAN_ANY_DISK
    )

    watched.saw_checkpoint(folder)
    watched.look()

    assert disk.hold is not None
    assert watched.hold is None


def test_object_storage_does_not_tell_what_room_it_has(settings: Settings) -> None:
    storage = open_storage("s3://bucket", **S3_KEYS)

    assert watch(settings, storage, 1).hold is None
    assert room_of(settings, storage).storage_bytes is None


def test_after_a_failed_write_more_is_needed_than_there_was(
    settings: Settings, storage: Storage
) -> None:
    disk = watch(settings, storage, 1)
    free = shutil.disk_usage(settings.scratch_folder).free

    assert disk.hold_after_failure().scratch_bytes > free
