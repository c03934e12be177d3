"""Counts what became of the examples on their way to the trainer."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

IGNORED = -100
"""Label of a token that is read but not learned."""

BATCH_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class DataReport:
    """What the trainer makes of one set of examples."""

    rows: int
    """Rows of the file."""
    rows_used: int
    """Rows with something to learn in them."""
    dropped_rows: int
    """Rows of which nothing to learn was left, mostly since the prompt alone fills max_length."""
    truncated_rows: int
    """Rows longer than max_length, whose end is not seen."""
    sequences: int
    """What a batch is made of: rows, or packs of rows."""
    tokens: int
    """Tokens read in one epoch."""
    trained_tokens: int
    """Tokens that the loss is computed on in one epoch."""
    longest_row_tokens: int
    """Length of the longest row before truncation."""

    def as_message(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Sums over a tokenized dataset."""

    rows: int
    tokens: int
    trained_tokens: int
    longest: int
    rows_longer: int
    """Rows of more than the given number of tokens."""
    rows_trained: int


def count_tokens(dataset: Dataset, *, max_length: int | None) -> TokenCount:
    """Count a dataset with input_ids and labels; a row's first token is never predicted."""
    rows = tokens = trained = longest = longer = rows_trained = 0
    for table in dataset.with_format("arrow").iter(BATCH_ROWS):
        lengths = pc.list_value_length(table["input_ids"])
        rows += len(table)
        tokens += _sum(lengths)
        longest = max(longest, pc.max(lengths).as_py() or 0)
        if max_length is not None:
            longer += _sum(pc.greater(lengths, max_length))
        learned = _learned(table["labels"])
        trained += int(learned.sum())
        rows_trained += int((learned > 0).sum())
    return TokenCount(rows, tokens, trained, longest, longer, rows_trained)


def _learned(labels: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each row, how many of its labels after the first are learned."""
    column = labels.combine_chunks()
    offsets = column.offsets.to_numpy()
    starts, ends = offsets[:-1], offsets[1:]
    learned = column.values.to_numpy() != IGNORED
    sums = np.concatenate([[0], np.cumsum(learned, dtype=np.int64)])
    rows: np.ndarray[Any, np.dtype[np.int64]] = sums[ends] - sums[np.minimum(starts + 1, ends)]
    return rows


def _sum(values: Any) -> int:
    return int(pc.sum(values).as_py() or 0)
