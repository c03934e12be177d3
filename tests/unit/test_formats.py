"""Files of every format, packed and not: the same rows come out, and mistakes have their line."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from core.dataset import FileReport, FileValidator, statistics
from core.dataset import unpack as unpack_module
from core.dataset.reading import Source, rows_of
from core.dataset.report import CompressionName, FormatName
from core.dataset.statistics import DuplicateCounter, Quantiles
from core.errors import InvalidFile

ROWS: list[dict[str, Any]] = [
    {"instruction": "Say hi", "input": "", "output": 'Hi,\r\n"you"'},
    {"instruction": "Add", "input": "1;2\t3", "output": "\u00e9\u2028 [6]"},
    {"instruction": "Lines", "input": "a\rb", "output": "c\n\nd"},
]
CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


FORMATS: dict[FormatName, Callable[[list[dict[str, Any]]], bytes]] = {
    "jsonl": lambda rows: b"".join(json.dumps(row).encode() + b"\r\n" for row in rows),
    "json": lambda rows: b"\xef\xbb\xbf \n" + json.dumps(rows, indent=1).encode(),
    "csv": as_csv,
}
PACKED: dict[CompressionName | None, Callable[[bytes], bytes]] = {
    None: bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
}


def validate(data: bytes, name: str = "rows", *, chunk_bytes: int = 2**20) -> FileReport:
    validator = FileValidator(name)
    for start in range(0, len(data), chunk_bytes):
        validator.feed(data[start : start + chunk_bytes])
    return validator.finish()


def reasons(data: bytes, name: str = "rows") -> list[str]:
    return [str(error) for error in validate(data, name).errors]


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("format_name", FORMATS)
def test_every_format_gives_the_same_rows(
    format_name: FormatName, compression: CompressionName | None, tmp_path: Path
) -> None:
    data = PACKED[compression](FORMATS[format_name](ROWS))
    path = tmp_path / "file"
    path.write_bytes(data)

    report = validate(data, f"rows.{format_name}")
    rows = [row for _, row in rows_of(Source(path, report.format, report.compression))]

    assert report.errors == ()
    assert (report.format, report.compression) == (format_name, compression)
    assert (report.rows, report.shape) == (3, "alpaca")
    assert rows == ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_of_a_csv_shows_its_separator(delimiter: str) -> None:
    assert validate(as_csv(ROWS, delimiter), "a.csv").shape == "alpaca"


def test_lists_in_cells_are_lists() -> None:
    data = as_csv([{"messages": json.dumps(CHAT["messages"])}])

    report = validate(data, "a.csv")

    assert (report.shape, report.roles) == ("messages", {"user": 1, "assistant": 1})


def test_the_format_can_be_given() -> None:
    validator = FileValidator("upload.dat", format_name="csv")
    validator.feed(as_csv(ROWS))

    assert validator.finish().format == "csv"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'text,n\na,1\n"b"c,2\nd,3\n', "line 3: wrong quoting: ',' expected after '\"'"),
        (b'text,n\na,1\n"b\nc,2\nd,3\n', "line 3: a quote is opened in this row and never closed"),
        (b'text,n\n"a\nb",1\nc\n', "line 4: the row has 1 cells; the header names 2"),
        (b"text,text\na,b\n", 'line 1: the header names "text" twice'),
        (b"text,\na,b\n", "line 1: the header has a column without a name"),
        (b"text\na\n\xff\n", "line 3: not UTF-8: the line has the byte 0xff"),
        (b"text\n", "the file has no rows"),
    ],
)
def test_a_mistake_in_a_csv_has_its_line(data: bytes, error: str) -> None:
    assert reasons(data, "a.csv") == [error]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'[{"text":"a"},\n{"text":"b"', "line 2: not JSON"),
        (b'[{"text":"a"},\n\n{"text":b}]', "line 3: not JSON"),
        (b'[{"text":"a"}\n{"text":"b"}]', "line 2: not JSON: '{' where a ',' is needed"),
        (b'[{"text":"a"},\n]', "line 2: an object is needed, not ']'"),
        (b'[{"text":"a"}]\nx', "line 2: something follows the array"),
        (b"[1, 2]", "line 1: an object is needed, not '1, 2]'"),
        (b'[\n{"text":NaN}]', "line 2: NaN at character 9 is not JSON; use null"),
        (b'[{"text":"a"},\n{"text":"\xff"}]', "line 2: not UTF-8"),
        (b'[{"text":' + b"[" * 100_000, "line 1: the row is nested too deep"),
        (b'[{"text":"a"}', 'line 1: the file ends before the "]" of its array'),
        (b"[]", "the file has no rows"),
    ],
)
def test_a_mistake_in_an_array_has_its_line(data: bytes, error: str) -> None:
    found = reasons(data)

    assert len(found) == 1
    assert found[0].startswith(error)


@pytest.mark.parametrize("format_name", FORMATS)
@given(cuts=st.lists(st.integers(0, 400), max_size=10))
def test_where_chunks_are_cut_changes_nothing(format_name: FormatName, cuts: list[int]) -> None:
    data = FORMATS[format_name](ROWS)
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    validator = FileValidator(f"rows.{format_name}")

    for start, end in pairwise(bounds):
        validator.feed(data[start:end])

    assert validator.finish() == validate(data, f"rows.{format_name}")


@pytest.mark.parametrize(
    "pack", [gzip.compress, zstandard.ZstdCompressor(write_checksum=True).compress]
)
def test_a_packed_file_that_breaks_off_or_is_damaged_is_refused(
    pack: Callable[[bytes], bytes],
) -> None:
    data = pack(b"".join(b'{"text":"%d"}\n' % n for n in range(10_000)))

    assert "breaks off" in reasons(data[: len(data) // 2])[-1]
    assert "damaged" in reasons(data[:200] + b"\xff" * 50 + data[250:])[-1]


def test_files_packed_one_after_the_other_are_one_file() -> None:
    one = b'{"text":"a"}\n'

    assert validate(gzip.compress(one) * 3).rows == 3
    assert validate(zstandard.compress(one) * 3, chunk_bytes=7).rows == 3


def zstd_bomb(size: int) -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(bytes(size))


def gzip_bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(size // 2**20)) + packer.flush()


@pytest.mark.parametrize("bomb", [gzip_bomb, zstd_bomb])
def test_a_bomb_is_refused_before_it_is_unpacked(bomb: Callable[[int], bytes]) -> None:
    data = bomb(unpack_module.FREE_BYTES + 64 * 2**20)

    report = validate(b"\n".join([data]), "rows.jsonl")

    assert "unpacks to more than 300 times its size" in str(report.errors[-1])


def test_a_damaged_file_that_is_read_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b'text\na\n"b"c\n')

    with pytest.raises(InvalidFile, match="Line 3: wrong quoting"):
        list(rows_of(Source(path, "csv")))


def test_a_carriage_return_in_a_row_of_jsonl_does_not_end_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b'{"a":1,\r"text":"b"}\n')

    assert list(rows_of(Source(path))) == [(1, {"a": 1, "text": "b"})]


def test_the_report_counts_duplicates_empty_rows_roles_and_lengths() -> None:
    human = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "bcd"}]}
    rows = [human] * 3 + [{"conversations": [{"from": "gpt", "value": ""}]}]

    report = validate(FORMATS["jsonl"](rows))

    assert (report.duplicate_rows, report.duplicates_are_estimated) == (2, False)
    assert report.empty_rows == 1
    assert report.roles == {"human": 3, "gpt": 4}
    assert report.lengths == {"min": 0, "p10": 0, "p50": 4, "p90": 4, "p99": 4, "max": 4}


def test_duplicates_of_many_rows_are_estimated_in_bounded_memory() -> None:
    counter = DuplicateCounter()
    rows = 3 * statistics.MAX_HASHES

    for _ in range(2):
        for number in range(rows):
            counter.add(hash(str(number)))

    assert counter.is_estimated
    assert counter.count(2 * rows) == pytest.approx(rows, rel=0.02)


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_quantiles_are_within_a_percent(lengths: list[int]) -> None:
    quantiles = Quantiles()
    for length in lengths:
        quantiles.add(length)

    found = quantiles.to_dict()

    ordered = sorted(lengths)
    assert (found["min"], found["max"]) == (ordered[0], ordered[-1])
    median = ordered[(len(ordered) - 1) // 2]
    assert found["p50"] == pytest.approx(median, rel=0.01, abs=1)
