"""The shapes of a row that can be trained on, and what is wrong with a row that has none."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, NamedTuple

from core.dataset.report import ShapeName

Row = dict[str, Any]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MAX_SHOWN_CHARACTERS = 40

WORDS: Mapping[type, str] = {
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    NoneType: "null",
    list: "a list",
    dict: "an object",
}


class Problem(NamedTuple):
    """What is wrong with a row, and in which field."""

    column: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What every row of a file must have, as the first row shows it."""

    name: ShapeName
    required: Mapping[str, type]

    @property
    def message_columns(self) -> tuple[str, ...]:
        """The columns that hold lists of messages."""
        return tuple(name for name, kind in self.required.items() if kind is list)


COLUMNS = Shape("columns", {})


def shape_of(row: Row) -> Shape:
    """The shape that a first row announces, good or not."""
    if isinstance(row.get("messages"), list):
        return Shape("messages", {"messages": list})
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str | list) and isinstance(completion, str | list):
        kind = type(prompt)
        return Shape("prompt_completion", {"prompt": kind, "completion": kind})
    # A null text is a text that somebody forgot, not a row without one.
    if "text" in row and isinstance(row["text"], str | None):
        return Shape("text", {"text": str})
    return COLUMNS


def column_problem(shape: Shape, row: Row) -> Problem | None:
    """A required column that is missing or has another type. The same for rows of equal types."""
    for name, kind in shape.required.items():
        if name not in row:
            return Problem(name, f'no "{name}"; the rows before it have one')
        found = type(row[name])
        if found is not kind:
            needed = "a list of messages" if kind is list else WORDS[kind]
            return Problem(name, f'"{name}" is {WORDS[found]}; {needed} is needed')
    return None


def messages_problem(shape: Shape, row: Row) -> Problem | None:
    """The first message that cannot be trained on."""
    for column in shape.message_columns:
        problem = _conversation_problem(column, row[column])
        if problem is not None:
            return problem
    return None


def quoted(text: str) -> str:
    """Somebody else's text, short enough and escaped to stand in a message."""
    short = text[:MAX_SHOWN_CHARACTERS] + ("..." if len(text) > MAX_SHOWN_CHARACTERS else "")
    return json.dumps(short, ensure_ascii=False)


def _conversation_problem(column: str, messages: list[Any]) -> Problem | None:
    if not messages:
        return Problem(column, f'"{column}" is an empty list')
    answered = column == "prompt"
    for index, message in enumerate(messages):
        if not _is_plain(message):
            problem = _message_problem(f"{column}[{index}]", message)
            if problem is not None:
                return problem
        answered = answered or message["role"] == "assistant"
    if not answered:
        return Problem(column, f'"{column}" has no assistant message to learn from')
    return None


def _is_plain(message: Any) -> bool:
    """Whether a message is a role and a text and nothing else: nearly all are."""
    if type(message) is not dict or len(message) != 2:
        return False
    role = message.get("role")
    return type(role) is str and role in ROLES and type(message.get("content")) is str


def _message_problem(path: str, message: Any) -> Problem | None:
    if not isinstance(message, dict):
        return Problem(path, f"{path} is {WORDS[type(message)]}; an object is needed")
    return (
        _role_problem(f"{path}.role", message)
        or _content_problem(f"{path}.content", message)
        or _weight_problem(f"{path}.weight", message)
    )


def _role_problem(path: str, message: Row) -> Problem | None:
    role = message.get("role")
    if isinstance(role, str) and role in ROLES:
        return None
    if "role" not in message:
        return Problem(path, f"{path} is missing; use user, assistant, system or tool")
    found = quoted(role) if isinstance(role, str) else WORDS[type(role)]
    return Problem(path, f"{path} is {found}; use user, assistant, system or tool")


def _content_problem(path: str, message: Row) -> Problem | None:
    content = message.get("content")
    if isinstance(content, str):
        return None
    if content is not None:
        return Problem(path, f"{path} is {WORDS[type(content)]}; a string is needed")
    calls = message.get("tool_calls")
    if message["role"] == "assistant" and isinstance(calls, list) and calls:
        return None
    found = "null" if "content" in message else "missing"
    return Problem(path, f"{path} is {found}; only an assistant's tool_calls can do without one")


def _weight_problem(path: str, message: Row) -> Problem | None:
    if "weight" not in message:
        return None
    if message["role"] != "assistant":
        return Problem(path, f"{path}: only messages of the assistant can have a weight")
    weight = message["weight"]
    if type(weight) is not int or weight not in (0, 1):
        return Problem(path, f"{path} must be 0 or 1")
    return None
