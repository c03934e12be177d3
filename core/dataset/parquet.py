"""Reads Parquet batch by batch. The library is imported by whoever reads, not by the server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from core.dataset.columns import MAX_COLUMNS
from core.errors import InvalidFile

BATCH_ROWS = 256
"""A cell may be large although it takes no room in the file, where it stands once for many rows."""
READ_BYTES = 1024 * 1024
MAX_ROWS = 50_000_000
"""Rows that are empty take no room at all in a file."""
MAX_LEAVES = 10_000
"""Columns with all that is nested in them."""


def parquet_rows(path: Path, *, every: int = 1) -> Iterator[tuple[int, bytes]]:
    """Every n-th row as JSON, by its number from 1. InvalidFile when it cannot be read."""
    import pyarrow as pa  # noqa: PLC0415 - takes half a second and 60 MB
    import pyarrow.parquet as pq  # noqa: PLC0415

    number = 0
    try:
        with pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False) as file:
            _check_size(file)
            columns = [field.name for field in file.schema_arrow if not _holds_bytes(field.type)]
            if not columns:
                raise InvalidFile("the file has no columns that could be trained on")
            for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                wanted = range(-number % every, batch.num_rows, every)
                # Making Python of rows is what takes the time.
                some = batch if every == 1 else batch.take(pa.array(wanted, pa.int64()))
                rows = some.to_pylist(maps_as_pydicts="lossy")
                for index, row in zip(wanted, rows, strict=True):
                    yield number + index + 1, orjson.dumps(row, default=str)
                number += batch.num_rows
    except pa.ArrowMemoryError as error:
        raise MemoryError from error
    except (pa.ArrowException, OSError, orjson.JSONEncodeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        message = f"the Parquet file cannot be read after row {number}: {reason}"
        raise InvalidFile(message) from error


def _check_size(file: Any) -> None:
    """Refuse by the footer what would take for ever to look at."""
    if file.metadata.num_rows > MAX_ROWS:
        raise InvalidFile(f"the file has more than {MAX_ROWS:,} rows")
    if len(file.schema_arrow) > MAX_COLUMNS or file.metadata.num_columns > MAX_LEAVES:
        raise InvalidFile(f"the file has more than {MAX_COLUMNS:,} columns")


def _holds_bytes(kind: Any) -> bool:
    """Whether a column holds images, sounds or other bytes, of which no text can be made."""
    import pyarrow.types as types  # noqa: PLC0415

    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    return any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))
