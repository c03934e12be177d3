"""What every kind of storage does, shown on each of them."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import InvalidFile, NotFound
from core.storage import CHUNK_BYTES, PART_BYTES, CorruptObject, Storage

MB = 1_000_000


class Interrupted(Exception):
    """What the sender of a stream may raise."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def megabytes(count: int) -> Iterator[bytes]:
    return (bytes([number % 251]) * MB for number in range(count))


def broken_off(chunks: Iterator[bytes], error: Exception) -> Iterator[bytes]:
    yield from chunks
    raise error


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("data", [b"", b"hello", b"\0\xff" * 1000], ids=["empty", "text", "binary"])
def test_what_was_put_is_read_again(storage: Storage, data: bytes) -> None:
    stored = storage.put_stream("files/one", [data[:3], b"", data[3:]])

    assert (stored.key, stored.size, stored.sha256) == ("files/one", len(data), sha256(data))
    assert storage.size("files/one") == len(data)
    assert storage.read_bytes("files/one") == data
    assert storage.exists("files/one")


def test_a_stream_without_chunks_is_an_empty_object(storage: Storage) -> None:
    stored = storage.put_stream("files/empty", [])

    assert stored.size == storage.size("files/empty") == 0
    assert list(storage.read("files/empty")) == []


def test_an_object_of_many_parts_comes_back_whole_and_in_chunks(storage: Storage) -> None:
    stored = storage.put_stream("files/big", megabytes(40))

    digest, sizes = hashlib.sha256(), []
    for chunk in storage.read("files/big"):
        digest.update(chunk)
        sizes.append(len(chunk))
    assert stored.size == sum(sizes) == 40 * MB > 4 * PART_BYTES
    assert digest.hexdigest() == stored.sha256 == sha256(b"".join(megabytes(40)))
    assert max(sizes) < 4 * CHUNK_BYTES


def test_a_file_is_stored_under_the_hash_of_its_content(storage: Storage, tmp_path: Path) -> None:
    data = b"".join(megabytes(3))
    (tmp_path / "source").write_bytes(data)

    stored = storage.put_file("files/copy", tmp_path / "source")

    assert (stored.size, stored.sha256) == (len(data), sha256(data))
    assert storage.read_bytes("files/copy") == data


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, b"0123456789"),
        (0, 1, b"0"),
        (3, 5, b"34"),
        (7, None, b"789"),
        (9, 10, b"9"),
        (8, 1000, b"89"),
        (4, 4, b""),
        (5, 2, b""),
        (10, None, b""),
        (11, 20, b""),
        (0, 0, b""),
    ],
)
def test_a_range_is_from_start_up_to_end(
    storage: Storage, start: int, end: int | None, expected: bytes
) -> None:
    storage.put_stream("files/digits", [b"0123456789"])

    assert b"".join(storage.read("files/digits", start=start, end=end)) == expected


def test_a_range_across_parts_is_exact(storage: Storage) -> None:
    storage.put_stream("files/big", megabytes(20))
    data = b"".join(megabytes(20))
    start, end = PART_BYTES - 3, 2 * PART_BYTES + 3

    assert b"".join(storage.read("files/big", start=start, end=end)) == data[start:end]


def test_what_is_missing_is_not_found(storage: Storage, tmp_path: Path) -> None:
    storage.put_stream("folder/one", [b"1"])

    for key in ("nothing", "folder", "folder/other"):
        assert not storage.exists(key)
        with pytest.raises(NotFound, match=key):
            storage.size(key)
        with pytest.raises(NotFound, match=key):
            storage.read_bytes(key)
        with pytest.raises(NotFound, match=key):
            storage.fetch(key, tmp_path / "target", sha256=sha256(b""))
    assert not (tmp_path / "target").exists()


def test_a_missing_object_is_known_before_its_first_chunk(storage: Storage) -> None:
    """An answer can still become an error then."""
    storage.put_stream("files/one", [b"1"])

    with pytest.raises(NotFound):
        storage.read("files/other")


@pytest.mark.parametrize("before", [0, 1, 40])
@pytest.mark.parametrize("error", [Interrupted("gone"), InvalidFile("line 3")], ids=str)
def test_a_stream_that_breaks_off_leaves_nothing(
    storage: Storage, tmp_path: Path, before: int, error: Exception
) -> None:
    storage.put_stream("files/other", [b"1"])

    with pytest.raises(type(error)) as raised:
        storage.put_stream("files/broken", broken_off(megabytes(before), error))

    assert raised.value is error
    assert not storage.exists("files/broken")
    assert list(storage.list("files")) == [("files/other", 1)]
    if storage.local_path("files") is not None:
        assert files_below(tmp_path) == [storage.local_path("files/other")]


def test_a_stream_that_breaks_off_keeps_what_was_there(storage: Storage) -> None:
    storage.put_stream("files/one", [b"first"])

    with pytest.raises(Interrupted):
        storage.put_stream("files/one", broken_off(megabytes(20), Interrupted()))

    assert storage.read_bytes("files/one") == b"first"


def test_a_second_put_replaces_the_first(storage: Storage) -> None:
    storage.put_stream("files/one", [b"a long first version"])
    storage.put_stream("files/one", [b"second"])

    assert storage.read_bytes("files/one") == b"second"
    assert list(storage.list("files")) == [("files/one", 6)]


def test_a_list_has_what_is_below_the_prefix_only(storage: Storage) -> None:
    for key in ("job/1/a", "job/1/deep/b", "job/10/c", "job/1x", "job2/1/d"):
        storage.put_stream(key, [key.encode()])

    assert sorted(storage.list("job/1")) == [("job/1/a", 7), ("job/1/deep/b", 12)]
    assert list(storage.list("nothing")) == []


def test_a_deleted_object_is_gone(storage: Storage) -> None:
    storage.put_stream("files/one", [b"1"])
    storage.put_stream("files/two", [b"2"])

    storage.delete("files/one")
    storage.delete("files/one")

    assert list(storage.list("files")) == [("files/two", 1)]


def test_a_deleted_prefix_takes_all_below_and_nothing_beside(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.storage.DELETE_BATCH", 4)
    for number in range(11):
        storage.put_stream(f"job/1/{number}/x", [b"1"])
    storage.put_stream("job/10/x", [b"1"])

    storage.delete_prefix("job/1")
    storage.delete_prefix("job/1")
    storage.delete_prefix("job/10/x")

    assert list(storage.list("job")) == [("job/10/x", 1)]


def test_a_fetched_file_has_the_bytes_of_its_hash(storage: Storage, tmp_path: Path) -> None:
    stored = storage.put_stream("files/one", megabytes(5))
    target = tmp_path / "target"
    target.write_bytes(b"older")

    storage.fetch("files/one", target, sha256=stored.sha256)

    assert target.read_bytes() == b"".join(megabytes(5))


def test_a_fetch_of_other_bytes_leaves_no_file(storage: Storage, tmp_path: Path) -> None:
    storage.put_stream("files/one", [b"damaged"])
    folder = tmp_path / "scratch"
    folder.mkdir()

    with pytest.raises(CorruptObject, match="files/one"):
        storage.fetch("files/one", folder / "target", sha256=sha256(b"intact"))

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["a b", "p%20q", "q?x=1&y", "h#x", "~t*", ".hidden", "umlaut-\u00fc", "a..b"]
)
def test_unusual_names_stay_as_they_are(storage: Storage, name: str) -> None:
    storage.put_stream(f"odd/{name}", [b"1"])

    assert storage.read_bytes(f"odd/{name}") == b"1"
    assert list(storage.list("odd")) == [(f"odd/{name}", 1)]
    path = storage.local_path(f"odd/{name}")
    assert path is None or path.read_bytes() == b"1"


@pytest.mark.parametrize(
    "key",
    ["", "/", "/a", "a/", "a//b", "..", "a/../b", "../a", ".", "a/./b", "a\\b", "a\0b", "a#1"],
)
def test_a_bad_key_is_a_mistake_of_ours(storage: Storage, tmp_path: Path, key: str) -> None:
    calls = (
        lambda: storage.put_stream(key, [b"1"]),
        lambda: storage.size(key),
        lambda: storage.read(key),
        lambda: storage.fetch(key, tmp_path / "target", sha256=""),
        lambda: list(storage.list(key)),
        lambda: storage.delete(key),
        lambda: storage.delete_prefix(key),
        lambda: storage.local_path(key),
        lambda: storage.signed_url(key, 60),
        lambda: storage.location(key),
    )

    for call in calls:
        with pytest.raises(ValueError, match="bad storage key"):
            call()


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 5])
def test_what_was_stored_is_found_to_be_right(storage: Storage, size: int) -> None:
    storage.verify(storage.put_stream("files/one", [b"x" * size]))


@pytest.mark.parametrize("other", [b"other", b"longer than before"])
def test_what_was_changed_since_is_found_to_be_wrong(storage: Storage, other: bytes) -> None:
    stored = storage.put_stream("files/one", [b"12345"])
    storage.put_stream("files/one", [other])

    with pytest.raises(CorruptObject):
        storage.verify(stored)


def test_what_is_gone_since_is_missed(storage: Storage) -> None:
    stored = storage.put_stream("files/one", [b"12345"])
    storage.delete("files/one")

    with pytest.raises(NotFound):
        storage.verify(stored)


def test_access_is_checked_without_a_trace(storage: Storage) -> None:
    storage.check_access()

    assert list(storage.list("access-check")) == []


def test_old_objects_are_told_from_new_ones(storage: Storage) -> None:
    storage.put_stream("files/one", [b"1"])
    now = datetime.now(UTC)

    assert list(storage.list_older("files", now - timedelta(minutes=1))) == []
    assert list(storage.list_older("files", now + timedelta(minutes=1))) == ["files/one"]
    assert list(storage.list_older("nothing", now)) == []
