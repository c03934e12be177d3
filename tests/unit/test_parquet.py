"""Parquet is read in another process, which a hostile file cannot take the server down with."""

import datetime
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.dataset import FileValidator
from core.dataset.parquet_check import check_parquet
from core.dataset.reading import Source, rows_of
from core.isolated import Limits

MIB = 1024**2
CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]


def written(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_rows_of_a_table_are_checked_and_read(tmp_path: Path) -> None:
    day = datetime.date(2026, 1, 2)
    path = written(tmp_path, [{"messages": CHAT, "day": day, "image": b"\xff"}] * 700)

    report = check_parquet(path)
    rows = list(rows_of(Source(path, "parquet")))

    assert (report.rows, report.shape, report.errors) == (700, "messages", ())
    assert report.roles == {"user": 700, "assistant": 700}
    assert report.columns.keys() == {"messages", "day"}
    assert rows[699][0] == 700
    assert rows[0][1]["day"] == "2026-01-02"
    assert rows[0][1]["messages"][1]["weight"] == 0


def test_a_packed_table_is_unpacked_and_read(tmp_path: Path) -> None:
    packed = tmp_path / "rows.parquet.gz"
    packed.write_bytes(gzip.compress(written(tmp_path, [{"text": "a"}]).read_bytes()))
    validator = FileValidator(packed.name)
    validator.feed(packed.read_bytes())
    validator.finish()

    assert validator.needs_file
    assert check_parquet(packed, validator.compression).rows == 1


def test_a_bad_row_of_a_table_has_its_number(tmp_path: Path) -> None:
    path = written(tmp_path, [{"text": "a"}, {"text": None}])

    assert [str(error) for error in check_parquet(path).errors] == [
        'line 2: "text" is null; a string is needed'
    ]


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, [{"text": "a"}])
    path.write_bytes(path.read_bytes()[:-20] + b"PAR1")

    assert "cannot be read" in str(check_parquet(path).errors[0])


def test_a_small_table_of_huge_cells_ends_its_reader_and_nothing_else(tmp_path: Path) -> None:
    cell = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["x" * (15 * MIB)])
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"text": cell}), path)
    assert path.stat().st_size < 20 * MIB

    report = check_parquet(path, limits=Limits(seconds=60, memory_bytes=1024 * MIB))

    assert "takes too much memory to read" in str(report.errors[0])


@pytest.mark.parametrize("every", [2, 300, 7000])
def test_a_sample_has_every_nth_row_under_its_number(tmp_path: Path, every: int) -> None:
    path = tmp_path / "long.parquet"
    pq.write_table(pa.table({"number": list(range(1, 1001))}), path, row_group_size=300)

    rows = list(rows_of(Source(path, "parquet"), every=every))

    assert rows == [(n, {"number": n}) for n in range(1, 1001, every)]


@pytest.mark.parametrize("rows", [300_000])
def test_a_long_table_is_read_in_little_memory(tmp_path: Path, rows: int) -> None:
    table = pa.table({"text": [f"row {n} of a long table" for n in range(1000)] * (rows // 1000)})
    path = tmp_path / "long.parquet"
    pq.write_table(table, path, row_group_size=rows)

    assert check_parquet(path, limits=Limits(seconds=60, memory_bytes=1024 * MIB)).rows == rows
