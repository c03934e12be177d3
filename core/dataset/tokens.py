"""Counts what becomes of tokenized rows: the same counts before a job and in it."""

import math
import random
from array import array
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.dataset.encode import IGNORED, Encoder, Tokens
from core.dataset.statistics import Quantiles

DEFAULT_BATCH_ROWS = 8
"""SFTConfig's per_device_train_batch_size."""
LOSSLESS_PACKING = ("bfd_split", "wrapped")
HISTOGRAM_BARS = 20
MAX_SIMULATED_ROWS = 20_000
"""So many rows are enough to see how batches fill."""
MAX_SAMPLE_TOKENS = 1_000
CONFIDENCE = 0.95
DEVIATIONS = 1.96
"""That many standard deviations around a mean have CONFIDENCE in them."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """What is done to tokenized rows before they are trained on."""

    max_length: int | None
    keeps_end: bool = False
    packing: bool = False
    packing_strategy: str = "bfd"
    batch_rows: int = DEFAULT_BATCH_ROWS

    @property
    def is_lossless(self) -> bool:
        """Whether what is longer than max_length goes on in another pack."""
        return self.packing and self.packing_strategy in LOSSLESS_PACKING

    def kept(self, length: int) -> slice:
        """What is left of a row of this length."""
        if self.max_length is None or length <= self.max_length or self.is_lossless:
            return slice(0, length)
        start = length - self.max_length if self.keeps_end else 0
        return slice(start, start + self.max_length)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenReport:
    """What the trainer makes of one set of examples."""

    rows: int
    """Rows of the file."""
    rows_used: int
    """Rows with something to learn in them."""
    dropped_rows: int
    """Rows of which nothing to learn was left."""
    nothing_to_learn_rows: int
    """Those of them that had nothing to learn even before they were cut."""
    truncated_rows: int
    """Rows longer than max_length, whose end (or beginning) is not seen."""
    truncated_tokens: int
    """Tokens that are not seen."""
    sequences: int
    """What a batch is made of: rows, or packs of rows."""
    tokens: int
    """Tokens read in one epoch."""
    trained_tokens: int
    """Tokens that the loss is computed on in one epoch."""
    masked_fraction: float
    """Share of the tokens that are read and not learned."""
    trained_on: str
    """everything, completions, assistant, or the file's own labels."""
    longest_row_tokens: int
    """Length of the longest row before it is cut."""
    lengths: Mapping[str, int]
    """Quantiles of the tokens of a row before it is cut."""
    histogram: Sequence[Mapping[str, int]]
    """Rows by length before they are cut: `rows` of more than the last `up_to`, up to this one."""
    padding: Mapping[str, float | None]
    """Share of each batch that is padding: of rows in `unpacked`, of full packs in `packed`."""
    samples: Sequence[Mapping[str, Any]]
    """Up to three rows as text in segments, each trained or not."""
    sampled_rows: int | None = None
    """Rows that were looked at when the rest is inferred from them; null when all were."""
    confidence: float | None = None
    tokens_margin: int | None = None
    """With that confidence `tokens` is right within so many."""
    trained_tokens_margin: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class TokenCounter:
    """Counts rows as they are tokenized; memory is 12 bytes a row."""

    def __init__(self, cutting: Cutting):
        self._cutting = cutting
        self._lengths = array("I")
        self._kept = array("I")
        self._trained = array("I")
        self._nothing = 0
        self._dropped = 0

    def add(self, tokens: Tokens) -> None:
        """Count a row."""
        length = len(tokens.input_ids)
        kept = self._cutting.kept(length)
        learned = _learned(tokens, kept)
        is_used = learned > 0 or tokens.labels[kept.start] != IGNORED
        whole = learned if is_used else _learned(tokens, slice(0, length))
        self.add_counts(length, learned, is_used=is_used, learns_nothing=whole == 0 and not is_used)

    def add_counts(self, length: int, learned: int, *, is_used: bool, learns_nothing: bool) -> None:
        """Count a row of which others know how much is learned of it once it is cut."""
        kept = self._cutting.kept(length)
        is_read = is_used or self._cutting.packing
        self._lengths.append(length)
        self._kept.append(kept.stop - kept.start if is_read else 0)
        self._trained.append(learned)
        self._dropped += not is_used
        self._nothing += learns_nothing

    def report(
        self,
        *,
        trained_on: str,
        samples: Sequence[Mapping[str, Any]] = (),
        total_rows: int | None = None,
    ) -> TokenReport:
        """What is known; with more `total_rows` than were counted, what it means for all."""
        seen = len(self._lengths)
        rows = max(total_rows or seen, seen)
        scale = rows / seen if seen else 1.0
        tokens, trained = sum(self._kept), sum(self._trained)
        read = sum(self._lengths)
        is_sampled = rows > seen
        return TokenReport(
            rows=rows,
            rows_used=rows - round(self._dropped * scale),
            dropped_rows=round(self._dropped * scale),
            nothing_to_learn_rows=round(self._nothing * scale),
            truncated_rows=round(self._truncated() * scale),
            truncated_tokens=round((read - self._kept_of_all()) * scale),
            sequences=self._sequences(rows, scale),
            tokens=round(tokens * scale),
            trained_tokens=round(trained * scale),
            masked_fraction=round(1 - trained / tokens, 6) if tokens else 1.0,
            trained_on=trained_on,
            longest_row_tokens=max(self._lengths, default=0),
            lengths=_quantiles(self._lengths),
            histogram=_histogram(self._lengths, scale),
            padding=self._padding(),
            samples=samples,
            sampled_rows=seen if is_sampled else None,
            confidence=CONFIDENCE if is_sampled else None,
            tokens_margin=_margin(self._kept, rows) if is_sampled else None,
            trained_tokens_margin=_margin(self._trained, rows) if is_sampled else None,
        )

    def _truncated(self) -> int:
        limit = self._cutting.max_length
        if limit is None or self._cutting.is_lossless:
            return 0
        return sum(length > limit for length in self._lengths)

    def _kept_of_all(self) -> int:
        cuts = map(self._cutting.kept, self._lengths)
        return sum(cut.stop - cut.start for cut in cuts)

    def _sequences(self, rows: int, scale: float) -> int:
        if not self._cutting.packing:
            return rows - round(self._dropped * scale)
        packs = self._packs()
        return round(packs * scale) if packs is not None else rows

    def _packs(self) -> int | None:
        limit = self._cutting.max_length
        if limit is None:
            return None
        if self._cutting.is_lossless:
            return math.ceil(sum(self._kept) / limit)
        lengths = _some(self._kept)
        whole = len(self._kept) / len(lengths) if lengths else 1
        return round(count_packs([min(length, limit) for length in lengths], limit) * whole)

    def _padding(self) -> dict[str, float | None]:
        limit, packs = self._cutting.max_length, self._packs()
        packed = None
        if limit is not None and packs:
            packed = round(max(0.0, 1 - sum(self._kept) / (packs * limit)), 4)
        return {"unpacked": _padding(_some(self._kept), self._cutting.batch_rows), "packed": packed}


def pick_samples(encoder: Encoder, rows: Sequence[tuple[str, Tokens]]) -> list[dict[str, Any]]:
    """Up to three rows with their places, as text with its mask."""
    chosen = {index: rows[index] for index in (0, len(rows) // 2, len(rows) - 1) if rows}
    return [
        {
            "place": place,
            "tokens": len(tokens.input_ids),
            "segments": encoder.segments(
                Tokens(tokens.input_ids[:MAX_SAMPLE_TOKENS], tokens.labels[:MAX_SAMPLE_TOKENS])
            ),
            "is_cut": len(tokens.input_ids) > MAX_SAMPLE_TOKENS,
        }
        for place, tokens in chosen.values()
    ]


def count_packs(lengths: Sequence[int], limit: int) -> int:
    """How many packs best-fit-decreasing makes of rows of these lengths."""
    room: list[int] = []
    packs = 0
    for length in sorted(lengths, reverse=True):
        place = bisect_left(room, length)
        is_new = place == len(room)
        left = (limit if is_new else room.pop(place)) - length
        packs += is_new
        if left:
            insort(room, left)
    return packs


def _learned(tokens: Tokens, kept: slice) -> int:
    """Labels that are learned; a row's first token is never predicted."""
    labels = tokens.labels
    if labels is tokens.input_ids:
        return max(0, int(kept.stop) - int(kept.start) - 1)
    part = labels[kept.start + 1 : kept.stop]
    return len(part) - part.count(IGNORED)


def _some(lengths: Sequence[int]) -> list[int]:
    used = [length for length in lengths if length]
    source = random.Random(0)
    if len(used) > MAX_SIMULATED_ROWS:
        return source.sample(used, MAX_SIMULATED_ROWS)
    source.shuffle(used)
    return used


def _padding(lengths: Sequence[int], batch_rows: int) -> float:
    padded = 0
    for start in range(0, len(lengths), batch_rows):
        batch = lengths[start : start + batch_rows]
        padded += len(batch) * max(batch)
    return round(1 - sum(lengths) / padded, 4) if padded else 0.0


def _quantiles(lengths: Sequence[int]) -> dict[str, int]:
    quantiles = Quantiles()
    for length in lengths:
        quantiles.add(length)
    return quantiles.to_dict()


def _histogram(lengths: Sequence[int], scale: float) -> list[dict[str, int]]:
    longest = max(lengths, default=0)
    width = _round_up(longest / HISTOGRAM_BARS)
    counts = [0] * (math.ceil(longest / width) if longest else 0)
    for length in lengths:
        counts[max(0, length - 1) // width] += 1
    return [
        {"up_to": (index + 1) * width, "rows": round(count * scale)}
        for index, count in enumerate(counts)
    ]


def _round_up(width: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, ..."""
    power = int(10 ** math.floor(math.log10(max(width, 1))))
    return int(next(step * power for step in (1, 2, 5, 10) if step * power >= width))


def _margin(values: Sequence[int], rows: int) -> int:
    """How far the sum over all rows may be from what the values say."""
    count = len(values)
    if count < 2:
        return sum(values) * rows
    mean = sum(values) / count
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    # Rows are drawn without putting them back: having seen nearly all leaves little doubt.
    unseen = 1 - count / rows
    return math.ceil(DEVIATIONS * rows * math.sqrt(variance / count * unseen))
