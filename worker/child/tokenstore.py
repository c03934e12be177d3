"""Tokenized rows on disk: an Arrow file, and beside it what it is and its hash."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import orjson
import pyarrow as pa
from datasets import Dataset

from core.dataset.encode import Tokens

TOKENS, ABOUT = "tokens.arrow", "about.json"
SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """Rows of input_ids and labels, not cut yet."""

    dataset: Dataset
    trained_on: str
    samples: Sequence[Mapping[str, Any]]


class TokenWriter:
    """Writes tokens to a folder that must not be there yet."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._is_closed = False
        self.rows = 0

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        self._stream = pa.ipc.new_stream(self._folder / TOKENS, SCHEMA)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def write(self, rows: Sequence[Tokens]) -> None:
        """Add rows."""
        self.rows += len(rows)
        columns = [_lists([row.input_ids for row in rows]), _lists([row.labels for row in rows])]
        self._stream.write_batch(pa.record_batch(columns, schema=SCHEMA))

    def write_table(self, table: pa.Table) -> None:
        """Add rows that are a table already."""
        self.rows += len(table)
        self._stream.write_table(table.cast(SCHEMA))

    def finish(self, *, trained_on: str, samples: Sequence[Mapping[str, Any]]) -> StoredTokens:
        """All rows are there."""
        self._close()
        about = {"trained_on": trained_on, "samples": samples, "sha256": _hash(self._folder)}
        (self._folder / ABOUT).write_bytes(orjson.dumps(about))
        return StoredTokens(self.dataset(), trained_on, samples)

    def dataset(self) -> Dataset:
        """The rows that were written, which stay on disk."""
        self._close()
        return Dataset.from_file(str(self._folder / TOKENS))

    def _close(self) -> None:
        # Each time a stream is closed it writes its end mark again.
        if not self._is_closed:
            self._stream.close()
            self._is_closed = True


def load_tokens(folder: Path) -> StoredTokens | None:
    """What a TokenWriter wrote; None when it is gone or not what it was."""
    try:
        about = orjson.loads((folder / ABOUT).read_bytes())
        if _hash(folder) != about["sha256"]:
            return None
        dataset = Dataset.from_file(str(folder / TOKENS))
    except (OSError, ValueError, KeyError, pa.ArrowException):
        # The cache may be emptied at any time; its rows can be made again.
        return None
    return StoredTokens(dataset, about["trained_on"], about["samples"])


def _lists(rows: Sequence[Sequence[int]]) -> pa.Array:
    ends = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    values = np.empty(int(ends[-1]), dtype=np.int32)
    for row, start, end in zip(rows, ends[:-1], ends[1:], strict=True):
        values[start:end] = row
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values))


def _hash(folder: Path) -> str:
    with (folder / TOKENS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
