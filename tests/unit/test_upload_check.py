"""What streams into an upload is read by a process of its own, which says what ours would."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from core import isolated
from core.dataset import FileValidator
from core.dataset.upload_check import UploadCheck
from core.errors import InvalidFile
from core.files import store_file
from core.isolated import Limits
from core.storage import open_storage

FILES = {
    "good.jsonl": b'{"text": "a"}\n\n{"text": "b", "n": 1.5, "big": 123456789012345678901}\n',
    "chat.jsonl": b'{"messages": [{"role": "user", "content": "\\u00e4\\u2028"}]}\r\n' * 2,
    "bad.jsonl": b'{"text": "a"}\n{"text": }\n[1]\n{"text": "\\ud800"}\nNaN\n\xff\n{"a": 1e999}\n',
    "nul.jsonl": b'{"text": "\\u0000"}\n{"text": "\0"}\n',
    "nothing.jsonl": b"",
    "array.json": b'[{"text": "a"},\n {"text": "\xed\xa0\x80"}, 3]',
    "rows.csv": b'text,label\n"=HYPERLINK(""http://x"")",@a\n+cmd,\ttab\n',
    "quote.csv": b'text\n"never closed\n',
    "packed.jsonl.gz": gzip.compress(b'{"text": "a"}\n' * 9000),
    "cut.jsonl.gz": gzip.compress(b'{"text": "a"}\n' * 9000)[:-9],
    "table.parquet": b"PAR1" + bytes(5000),
}


def _readers() -> set[psutil.Process]:
    """The processes that read now, or are just ending."""
    pid = isolated.forker_pid()
    return set(psutil.Process(pid).children()) if pid is not None else set()


def _new_reader(known: set[psutil.Process]) -> psutil.Process:
    """The process that reads now, as soon as it is there."""
    while not (found := _readers() - known):
        os.sched_yield()
    return found.pop()


@pytest.mark.parametrize("name", FILES)
def test_it_says_what_the_validator_says(name: str) -> None:
    content = FILES[name]
    pieces = [content[start : start + 4000] for start in range(0, len(content), 4000)]
    validator = FileValidator(name)
    for piece in pieces:
        validator.feed(piece)

    with UploadCheck(name) as check:
        for piece in pieces:
            check.feed(piece)
        checked = check.checked()

    assert checked.report == validator.finish()
    assert checked.needs_file == validator.needs_file


def test_what_ends_the_reader_ends_no_more_than_the_upload(tmp_path: Path) -> None:
    storage = open_storage(f"file://{tmp_path}")
    known = _readers()

    def chunks() -> Iterator[bytes]:
        yield b'{"text": "a"}\n'
        reader = _new_reader(known)
        reader.kill()
        reader.wait(20)
        yield b'{"text": "b"}\n' * 100_000

    with pytest.raises(InvalidFile, match="takes too much memory to read"):
        store_file(storage, chunks(), purpose="fine-tune", filename="rows.jsonl")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    new = store_file(storage, [b'{"text": "a"}\n'], purpose="fine-tune", filename="rows.jsonl")
    assert new.report is not None


def test_a_file_that_takes_too_much_memory_says_so() -> None:
    limits = Limits(seconds=20, memory_bytes=64 * 1024**2)
    row = b'{"text": "' + b"a" * 15 * 1024**2 + b'"}\n'

    with UploadCheck("rows.jsonl", limits=limits) as check:
        for _ in range(5):
            check.feed(row)
        report = check.checked().report

    assert [str(error) for error in report.errors] == ["the file takes too much memory to read"]


def test_a_reader_that_hangs_is_not_waited_for() -> None:
    limits = Limits(seconds=0.2, memory_bytes=1024**3)
    known = _readers()
    with UploadCheck("rows.jsonl", limits=limits) as check:
        _new_reader(known).suspend()
        for _ in range(20):
            check.feed(bytes(1024**2))
        report = check.checked().report

    assert [str(error) for error in report.errors] == ["the file takes too much time to read"]
