"""Reads examples, one row at a time, into a dataset on disk with exactly the columns to train on."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Json, List, Value, load_from_disk
from datasets.features.features import require_decoding

from core.errors import InvalidTemplate
from core.template import compile_template
from worker.child.failure import ChildFailure
from worker.child.order import DataSource, Order

Row = dict[str, Any]
PROMPT, COMPLETION, MESSAGES = "prompt", "completion", "messages"
OPTIONAL = ("tools", "chat_template_kwargs")
"""Columns beside messages that chat templates can see."""


@dataclass(frozen=True, slots=True)
class Part:
    """The training or the validation examples of an order, and how errors name them."""

    source: DataSource
    name: str

    @property
    def param(self) -> str:
        """The user's field."""
        return f"{self.name}_file"

    def refuse(self, message: str) -> ChildFailure:
        """A failure for which the examples are to blame."""
        return ChildFailure(f"invalid_{self.param}", message, param=self.param)


def training_part(order: Order) -> Part:
    """What to train on."""
    return Part(order.train, "training")


def validation_part(order: Order) -> Part | None:
    """What to evaluate on, if anything."""
    return Part(order.eval, "validation") if order.eval else None


def load_examples(order: Order, part: Part) -> Dataset:
    """The examples as rows of text, of messages, or of prompt and completion.

    ChildFailure names the row that cannot be used. Nothing but the file itself is ever opened:
    the formats' own loaders follow links that are written in the data.
    """
    first = next((row for _, row in _rows(part)), None)
    if first is None:
        raise part.refuse("There are no examples.")
    columns = _columns(order, part, first)
    return Dataset.from_generator(
        _examples,
        features=_features(columns, first),
        cache_dir=str(order.scratch / "datasets"),
        gen_kwargs={"order": order, "part": part, "columns": columns},
    )


def _columns(order: Order, part: Part, first: Row) -> tuple[str, ...]:
    """The columns to train on, by those of the first row."""
    text = order.training.get("dataset_text_field")
    if order.template is not None:
        return (text or "text",)
    if text is not None and text in first:
        return (text,)
    if PROMPT in first and COMPLETION in first:
        return (PROMPT, COMPLETION, *(name for name in OPTIONAL if name in first))
    if MESSAGES in first:
        return (MESSAGES, *(name for name in OPTIONAL if name in first))
    if "text" in first and text is None:
        return ("text",)
    raise part.refuse(
        f"The columns are {', '.join(sorted(first))}. Needed are text, messages, or prompt and "
        "completion. Name a text column in training.dataset_text_field, or give a template."
    )


def _features(columns: tuple[str, ...], first: Row) -> Features:
    # Messages carry what their template understands, so their keys are not ours to fix.
    return Features({name: _feature(name, first.get(name)) for name in columns})


def _feature(name: str, value: Any) -> Any:
    if name in OPTIONAL:
        return Json()
    return List(Json()) if isinstance(value, list) else Value("string")


def _examples(order: Order, part: Part, columns: tuple[str, ...]) -> Iterator[Row]:
    project = _projection(order, part, columns)
    for place, row in _rows(part):
        yield project(place, row)


def _projection(
    order: Order, part: Part, columns: tuple[str, ...]
) -> Callable[[str, Row], Row]:
    if order.template is not None:
        template = compile_template(order.template)

        def render(place: str, row: Row) -> Row:
            try:
                return {columns[0]: template.render(row)}
            except InvalidTemplate as error:
                raise InvalidTemplate(f"{place}: {error.message}", param="template") from error

        return render

    def pick(place: str, row: Row) -> Row:
        for name in columns:
            _check(part, place, name, row.get(name))
        return {name: row.get(name) for name in columns}

    return pick


def _check(part: Part, place: str, name: str, value: Any) -> None:
    if name in OPTIONAL or isinstance(value, str):
        return
    if value is None:
        raise part.refuse(f'{place} has no "{name}".')
    if name not in (PROMPT, COMPLETION, MESSAGES):
        raise part.refuse(f'{place}: "{name}" is not a text.')
    if not isinstance(value, list) or not all(_is_message(message) for message in value):
        raise part.refuse(f'{place}: "{name}" is not a list of messages with role and content.')


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return False
    # A call of a tool has no content of its own.
    return isinstance(message.get("content"), str) or bool(message.get("tool_calls"))


def _rows(part: Part) -> Iterator[tuple[str, Row]]:
    """Each row with its place, in words."""
    if part.source.kind == "jsonl":
        yield from _lines(part, part.source.path)
        return
    dataset = load_from_disk(str(part.source.path))
    # Reading an image or a sound would open whatever path or address stands in its cell.
    plain = [name for name, kind in dataset.features.items() if not require_decoding(kind)]
    for number, row in enumerate(dataset.select_columns(plain), start=1):
        yield f"Row {number}", row


def _lines(part: Part, path: Path) -> Iterator[tuple[str, Row]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            place = f"Line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise part.refuse(f"{place} is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise part.refuse(f"{place} is not a JSON object.")
            yield place, row
