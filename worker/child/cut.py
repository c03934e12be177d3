"""Counts tokenized rows, and cuts them to the length that is trained on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset

from core.dataset.encode import IGNORED
from core.dataset.tokens import Cutting, TokenCounter
from worker.child.tokenstore import TokenWriter

BATCH_ROWS = 10_000
Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


def cut_rows(dataset: Dataset, cutting: Cutting, folder: Path) -> tuple[Dataset, TokenCounter]:
    """The rows as they are trained on, and what was counted on the way.

    Rows that are left as they are stay where they are; others are written to the folder.
    """
    counter = TokenCounter(cutting)
    is_changed = False
    for batch in _batches(dataset):
        rows = _Rows(batch, cutting)
        rows.count(counter)
        is_changed = is_changed or rows.is_changed
    if cutting.packing or not is_changed:
        return dataset, counter
    with TokenWriter(folder) as writer:
        for batch in _batches(dataset):
            writer.write_table(_Rows(batch, cutting).cut())
        return writer.dataset(), counter


def count_sequences(dataset: Dataset) -> tuple[int, int, int]:
    """How many sequences there are, with how many tokens, of which how many are learned."""
    counts = [(len(rows.lengths), rows.lengths.sum(), rows.learned.sum()) for rows in _all(dataset)]
    return tuple(int(sum(column)) for column in zip(*counts, strict=True)) or (0, 0, 0)  # type: ignore[return-value]


def _all(dataset: Dataset) -> "Iterator[_Rows]":
    return (_Rows(batch, Cutting(max_length=None)) for batch in _batches(dataset))


def _batches(dataset: Dataset) -> Iterator[pa.Table]:
    yield from dataset.select_columns(["input_ids", "labels"]).with_format("arrow").iter(BATCH_ROWS)


class _Rows:
    """A batch, with what is kept of each of its rows."""

    def __init__(self, table: pa.Table, cutting: Cutting):
        self._table = table
        offsets, self._labels = _flat(table["labels"])
        self.lengths: Numbers = offsets[1:] - offsets[:-1]
        kept = [cutting.kept(int(length)) for length in self.lengths]
        self._starts = offsets[:-1] + np.array([cut.start for cut in kept], dtype=np.int64)
        self._ends = offsets[:-1] + np.array([cut.stop for cut in kept], dtype=np.int64)
        sums = np.concatenate([[0], np.cumsum(self._labels != IGNORED, dtype=np.int64)])
        self.learned: Numbers = sums[self._ends] - sums[np.minimum(self._starts + 1, self._ends)]
        """For each row, how many of its labels after the first are learned."""
        self._used = sums[self._ends] > sums[self._starts]
        self._whole = sums[offsets[1:]] - sums[np.minimum(offsets[:-1] + 1, offsets[1:])]

    @property
    def is_changed(self) -> bool:
        """Whether a row is cut or dropped."""
        return bool((self._ends - self._starts != self.lengths).any() or not self._used.all())

    def count(self, counter: TokenCounter) -> None:
        """Tell the counter about each row."""
        rows = zip(self.lengths, self.learned, self._used, self._whole, strict=True)
        for length, learned, is_used, whole in rows:
            nothing = not is_used and whole == 0
            counter.add_counts(int(length), int(learned), is_used=is_used, learns_nothing=nothing)

    def cut(self) -> pa.Table:
        """What is kept of the rows that are used."""
        starts, ends = self._starts[self._used], self._ends[self._used]
        lengths = ends - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        # For each kept token its place among all: a run of places for each row.
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        _, ids = _flat(self._table["input_ids"])
        columns = [_list(offsets, ids[places]), _list(offsets, self._labels[places])]
        return pa.table(columns, names=["input_ids", "labels"])


def _flat(column: pa.ChunkedArray) -> tuple[Numbers, Numbers]:
    """Where each list begins, and all their values."""
    array = column.combine_chunks()
    offsets = array.offsets.to_numpy().astype(np.int64)
    values = array.values.to_numpy()[offsets[0] : offsets[-1]]
    return offsets - offsets[0], values


def _list(offsets: Numbers, values: Numbers) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
