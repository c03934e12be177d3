"""Reads examples, row by row, into a dataset on disk with exactly the columns to train on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, Json, List, Value, load_from_disk
from datasets.features.features import require_decoding

from core.dataset import FormatName
from core.dataset.reading import Source, rows_of
from core.errors import InvalidFile, InvalidTemplate
from core.template import compile_template
from worker.child.failure import ChildFailure
from worker.child.order import DataSource, Order

Row = dict[str, Any]
TEXT, PROMPT, COMPLETION, MESSAGES = "text", "prompt", "completion", "messages"
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


@dataclass(frozen=True, slots=True)
class Columns:
    """What of each row is trained on, by the first of them."""

    names: tuple[str, ...]
    are_messages: bool = False
    """Lists of messages, else texts."""
    extra: tuple[str, ...] = ()
    """What chat templates see beside the messages."""

    def features(self) -> Features:
        """The types on disk. Messages have the keys that their template understands, not ours."""
        kind = List(Json()) if self.are_messages else Value("string")
        kinds = dict.fromkeys(self.names, kind) | {name: Json() for name in self.extra}
        return Features(kinds)


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
        features=columns.features(),
        cache_dir=str(order.scratch / "datasets"),
        gen_kwargs={"order": order, "part": part, "columns": columns},
    )


def _columns(order: Order, part: Part, first: Row) -> Columns:
    text = order.training.get("dataset_text_field", TEXT)
    if order.template is not None or ("dataset_text_field" in order.training and text in first):
        return Columns((text,))
    if text == TEXT:
        for names in ((MESSAGES,), (PROMPT, COMPLETION), (TEXT,)):
            if all(name in first for name in names):
                return _named(names, first)
    raise part.refuse(
        f"The columns are {', '.join(sorted(first))}. Needed are text, messages, or prompt and "
        "completion. Name a text column in training.dataset_text_field, or give a template."
    )


def _named(names: tuple[str, ...], first: Row) -> Columns:
    if names == (TEXT,) or (names != (MESSAGES,) and isinstance(first[PROMPT], str)):
        return Columns(names)
    extra = tuple(name for name in OPTIONAL if name in first)
    return Columns(names, are_messages=True, extra=extra)


def _examples(order: Order, part: Part, columns: Columns) -> Iterator[Row]:
    take = _render(order.template, columns) if order.template else _pick(part, columns)
    for place, row in _rows(part):
        yield take(place, row)


def _render(source: str, columns: Columns) -> Callable[[str, Row], Row]:
    template = compile_template(source)

    def render(place: str, row: Row) -> Row:
        try:
            return {columns.names[0]: template.render(row)}
        except InvalidTemplate as error:
            raise InvalidTemplate(f"{place}: {error.message}", param="template") from error

    return render


def _pick(part: Part, columns: Columns) -> Callable[[str, Row], Row]:
    def pick(place: str, row: Row) -> Row:
        for name in columns.names:
            problem = _problem(row.get(name), are_messages=columns.are_messages)
            if problem is not None:
                raise part.refuse(f'{place}: "{name}" {problem}.')
        return {name: row.get(name) for name in (*columns.names, *columns.extra)}

    return pick


def _problem(value: Any, *, are_messages: bool) -> str | None:
    if value is None:
        return "is missing"
    if not are_messages:
        return None if isinstance(value, str) else "is not a text"
    if isinstance(value, list) and value and all(_is_message(message) for message in value):
        return None
    return "is not a list of messages with role and content"


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return False
    # A call of a tool has no content of its own.
    return isinstance(message.get("content"), str) or bool(message.get("tool_calls"))


def _rows(part: Part) -> Iterator[tuple[str, Row]]:
    """Each row with its place, in words."""
    if part.source.kind != "saved":
        yield from _file_rows(part, part.source.kind)
        return
    dataset = load_from_disk(str(part.source.path))
    # Reading an image or a sound would open whatever path or address stands in its cell.
    plain = [name for name, kind in dataset.features.items() if not require_decoding(kind)]
    for number, row in enumerate(dataset.select_columns(plain), start=1):
        yield f"Row {number}", row


def _file_rows(part: Part, format_name: FormatName) -> Iterator[tuple[str, Row]]:
    source = Source(part.source.path, format_name, part.source.compression)
    try:
        for number, row in rows_of(source):
            yield f"{source.place_name} {number}", row
    except InvalidFile as error:
        raise part.refuse(error.message) from error
