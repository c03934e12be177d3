"""What only a local folder has."""

from pathlib import Path

import pytest

from core.errors import SettingsError, StorageFull, Unavailable
from core.storage import Storage, open_storage
from tests.limits import small_files


def test_an_object_is_a_file_of_its_key(local_storage: Storage) -> None:
    local_storage.put_stream("files/one", [b"1"])

    path = local_storage.local_path("files/one")

    assert path is not None
    assert path.read_bytes() == b"1"
    assert local_storage.location("files/one") == path.as_uri()
    assert local_storage.signed_url("files/one", 60) is None


def test_free_space_is_known(local_storage: Storage) -> None:
    free = local_storage.free_bytes()

    assert free is not None
    assert free > 0


@pytest.mark.parametrize("name", ["plain", "a b", "a#b", "a?b", "50%41"])
def test_a_path_is_taken_literally(tmp_path: Path, name: str) -> None:
    storage = open_storage(str(tmp_path / name))

    storage.put_stream("one", [b"1"])

    assert (tmp_path / name / "one").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["plain", "a b", "a#b", "a?b", "50%41"])
def test_a_file_url_is_decoded(tmp_path: Path, name: str) -> None:
    storage = open_storage((tmp_path / name).as_uri())

    storage.put_stream("one", [b"1"])

    assert (tmp_path / name / "one").read_bytes() == b"1"
    assert storage.location("one") == (tmp_path / name / "one").as_uri()


def test_a_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    storage = open_storage(str(tmp_path / "link"))

    storage.put_stream("files/one", [b"1"])

    assert (tmp_path / "real/files/one").read_bytes() == b"1"
    assert list(storage.list("files")) == [("files/one", 1)]


def test_a_folder_that_cannot_be_made_is_a_setting_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="STORAGE_URL") as raised:
        open_storage(str(tmp_path / "file" / "below"))

    assert raised.value.param == "STORAGE_URL"


def test_a_deleted_prefix_takes_what_a_killed_upload_left(
    local_storage: Storage, tmp_path: Path
) -> None:
    local_storage.put_stream("job/1/whole", [b"1"])
    (tmp_path / "storage/job/1/torn#1").write_bytes(b"part")
    assert list(local_storage.list("job")) == [("job/1/whole", 1)]

    local_storage.delete_prefix("job/1")

    assert not (tmp_path / "storage/job/1").exists()


def test_a_storage_that_cannot_be_written_is_unavailable(
    local_storage: Storage, tmp_path: Path
) -> None:
    (tmp_path / "storage/files").write_text("a file where a folder should be")

    with pytest.raises(Unavailable, match="storage"):
        local_storage.put_stream("files/one", [b"1"])


def test_a_full_disk_is_told_and_leaves_nothing(local_storage: Storage, tmp_path: Path) -> None:
    local_storage.put_stream("files/before", [b"1"])

    with small_files(100_000), pytest.raises(StorageFull):
        local_storage.put_stream("files/one", [b"1" * 60_000] * 3)

    assert list(local_storage.list("files")) == [("files/before", 1)]
    assert [path.name for path in (tmp_path / "storage/files").iterdir()] == ["before"]
