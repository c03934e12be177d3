"""How much there is to train on, from the report that the file got when it was uploaded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.dataset import FileReport
from core.models import File

BYTES_OF_TOKEN = 4
"""Of English text; other languages and code have more tokens."""
SPECIAL_TOKENS = 64
"""Room for the tokens that a chat template adds to a row."""
DEFAULT_EPOCHS = 3
"""TrainingArguments' own."""
FEWEST_EXAMPLES, MOST_EXAMPLES = 100, 25_000
"""What OpenAI's cookbook aims at when it chooses the epochs."""
MOST_EPOCHS = 25


@dataclass(frozen=True, slots=True)
class Amount:
    """Rows of the data and what is known of their lengths; None where nothing is."""

    rows: int | None = None
    mean_tokens: float | None = None
    longest_tokens: int | None = None
    """No row has more, whatever the tokenizer."""

    @classmethod
    def of(cls, file: File | None) -> "Amount":
        """What an uploaded file's report tells."""
        if file is None or file.report is None:
            return cls()
        report = FileReport.from_dict(file.report)
        if not report.rows:
            return cls()
        longest = report.lengths.get("max")
        is_counted = report.shape == "input_ids"
        if is_counted and longest is not None:
            return cls(report.rows, report.lengths["p50"], longest)
        # A tokenizer that knows all bytes never makes more tokens than there are bytes.
        bound = None if longest is None else 4 * longest + SPECIAL_TOKENS
        mean = file.size_bytes / report.rows / BYTES_OF_TOKEN
        if "p50" in report.lengths:
            mean = min(mean, max(1.0, report.lengths["p50"] / BYTES_OF_TOKEN))
        return cls(report.rows, mean, bound)

    def cut(self, length: int) -> int:
        """Tokens of the longest row that is left of a limit."""
        return length if self.longest_tokens is None else min(length, self.longest_tokens)


@dataclass(frozen=True, slots=True)
class Course:
    """Steps, epochs and tokens of a whole training; None where the data are unknown."""

    steps: int | None
    epochs: float | None
    tokens: int | None


def course_of(
    amount: Amount, training: Mapping[str, Any], *, effective: int, length: int
) -> Course:
    """How long a training is, counted as the trainer does."""
    epochs: float | None = float(training.get("num_train_epochs", DEFAULT_EPOCHS))
    rows, mean = amount.rows, amount.mean_tokens
    if rows is not None and mean is not None and training.get("packing"):
        rows = max(1, math.ceil(rows * min(mean, length) / length))
        mean = float(length)
    steps = None
    if rows is not None:
        each = rows // effective if training.get("dataloader_drop_last") else rows / effective
        steps = math.ceil(max(1, math.ceil(each)) * (epochs or 0))
    limit = int(training.get("max_steps", -1))
    if limit > 0:
        steps = limit
        epochs = round(limit * effective / rows, 3) if rows else None
    tokens = None
    if steps is not None and mean is not None:
        tokens = round(steps * effective * min(mean, length))
    return Course(steps, epochs, tokens)


def choose_epochs(amount: Amount) -> tuple[int, str]:
    """Epochs for "auto", and why."""
    rows = amount.rows
    if rows is None:
        return DEFAULT_EPOCHS, "the trainer's default, since the rows are not counted"
    if rows * DEFAULT_EPOCHS < FEWEST_EXAMPLES:
        epochs = min(MOST_EPOCHS, math.ceil(FEWEST_EXAMPLES / rows))
        return epochs, f"{rows} rows are few: each is seen {epochs} times"
    if rows * DEFAULT_EPOCHS > MOST_EXAMPLES:
        epochs = max(1, MOST_EXAMPLES // rows)
        return epochs, f"{rows} rows are many"
    return DEFAULT_EPOCHS, "as often as is usual"
