"""Messages of weight 0 are read, not learned: OpenAI's files have them, TRL does not know them."""

from collections.abc import Sequence
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from worker.child.report import BATCH_ROWS, IGNORED

MESSAGES = "messages"


def mask_weightless(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, chat_template: str | None
) -> Dataset:
    """The same tokenized rows, with the labels of such messages ignored."""
    if MESSAGES not in dataset.column_names or not _has_weights(dataset):
        return dataset

    def mask(row: dict[str, Any]) -> dict[str, Any]:
        def tokens(count: int, *, answers: bool) -> Sequence[int]:
            if count == 0:
                return []
            rendered = tokenizer.apply_chat_template(
                row[MESSAGES][:count],
                chat_template=chat_template,
                tools=row.get("tools"),
                add_generation_prompt=answers,
                return_dict=True,
            )
            ids: Sequence[int] = rendered["input_ids"]
            return ids

        labels = list(row["labels"])
        for index, message in enumerate(row[MESSAGES]):
            if message.get("weight") == 0:
                start = _common(row["input_ids"], tokens(index, answers=True))
                end = _common(row["input_ids"], tokens(index + 1, answers=False))
                labels[start:end] = [IGNORED] * (end - start)
        return {"labels": labels}

    return dataset.map(mask)


def _has_weights(dataset: Dataset) -> bool:
    """Look for the word in what is stored, which is JSON, without decoding it."""
    for table in dataset.with_format("arrow").iter(BATCH_ROWS):
        stored = pc.list_flatten(table[MESSAGES]).cast("string")
        if pc.any(pc.match_substring(stored, '"weight"')).as_py():
            return True
    return False


def _common(row: Sequence[int], part: Sequence[int]) -> int:
    """How far the row begins with this part; a template may end a part otherwise than the row."""
    for index, (left, right) in enumerate(zip(row, part, strict=False)):
        if left != right:
            return index
    return min(len(row), len(part))
