"""The shapes of a row that can be trained on, and what is wrong with a row that has none."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, NamedTuple

from core.dataset.report import ShapeName

Row = dict[str, Any]

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
"""Words that people use for roles, and the roles that chat templates know."""
KNOWN_ROLES = "use user, assistant, system or tool"
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
        if self.name == "input_ids":
            return ()
        return tuple(name for name, kind in self.required.items() if kind is list)


COLUMNS = Shape("columns", {})


def shape_of(row: Row) -> Shape:
    """The shape that a first row announces, good or not."""
    return next((shape for find in _FINDERS if (shape := find(row)) is not None), COLUMNS)


def shape_named(name: ShapeName, row: Row) -> Shape | None:
    """The shape of this name as this row has it; None when it has not."""
    if name == "columns":
        return COLUMNS
    found = (find(row) for find in _FINDERS)
    return next((shape for shape in found if shape is not None and shape.name == name), None)


def _messages(row: Row) -> Shape | None:
    return Shape("messages", {"messages": list}) if isinstance(row.get("messages"), list) else None


def _conversations(row: Row) -> Shape | None:
    if isinstance(row.get("conversations"), list):
        return Shape("conversations", {"conversations": list})
    return None


def _prompt_completion(row: Row) -> Shape | None:
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str | list) and isinstance(completion, str | list):
        kind = type(prompt)
        return Shape("prompt_completion", {"prompt": kind, "completion": kind})
    return None


def _input_ids(row: Row) -> Shape | None:
    if not isinstance(row.get("input_ids"), list):
        return None
    labels = {"labels": list} if isinstance(row.get("labels"), list) else {}
    return Shape("input_ids", {"input_ids": list} | labels)


def _text(row: Row) -> Shape | None:
    # A null text is a text that somebody forgot, not a row without one.
    if "text" in row and isinstance(row["text"], str | None):
        return Shape("text", {"text": str})
    return None


def _alpaca(row: Row) -> Shape | None:
    if isinstance(row.get("instruction"), str) and isinstance(row.get("output"), str):
        return Shape("alpaca", {"instruction": str, "output": str})
    return None


_FINDERS: tuple[Callable[[Row], Shape | None], ...] = (
    _messages, _conversations, _prompt_completion, _input_ids, _text, _alpaca,
)  # fmt: skip
"""The first that fits is the shape of a row."""


def column_problem(shape: Shape, row: Row) -> Problem | None:
    """A required column that is missing or has another type. The same for rows of equal types."""
    for name, kind in shape.required.items():
        if name not in row:
            return Problem(name, f'no "{name}"; the rows before it have one')
        found = type(row[name])
        if found is not kind:
            of_what = "token numbers" if shape.name == "input_ids" else "messages"
            needed = f"a list of {of_what}" if kind is list else WORDS[kind]
            return Problem(name, f'"{name}" is {WORDS[found]}; {needed} is needed')
    if shape.name == "alpaca" and not isinstance(row.get("input"), str | None):
        return Problem("input", f'"input" is {WORDS[type(row["input"])]}; a string is needed')
    return None


def nested_problem(
    shape: Shape, row: Row, roles: Counter[str], *, must_answer: bool = True
) -> Problem | None:
    """The first message or token that cannot be trained on; counts the roles of messages."""
    for column in shape.message_columns:
        answered = column == "prompt" or not must_answer
        problem = _conversation_problem(column, row[column], roles, answered=answered)
        if problem is not None:
            return problem
    return _tokens_problem(row) if shape.name == "input_ids" else None


def quoted(text: str) -> str:
    """Somebody else's text, short enough and escaped to stand in a message."""
    short = text[:MAX_SHOWN_CHARACTERS] + ("..." if len(text) > MAX_SHOWN_CHARACTERS else "")
    return json.dumps(short, ensure_ascii=False)


def role_of(message: Row) -> Any:
    """The role of a message as it stands in the file; ShareGPT's name for it is `from`."""
    return message["role"] if "role" in message else message.get("from")


def content_of(message: Row) -> Any:
    """The content of a message as it stands in the file; ShareGPT's name for it is `value`."""
    return message["content"] if "content" in message else message.get("value")


def _conversation_problem(
    column: str, messages: list[Any], roles: Counter[str], *, answered: bool
) -> Problem | None:
    if not messages:
        return Problem(column, f'"{column}" is an empty list')
    for index, message in enumerate(messages):
        if not _is_plain(message):
            problem = _message_problem(f"{column}[{index}]", message)
            if problem is not None:
                return problem
        role = message["role"] if "role" in message else message["from"]
        roles[role] += 1
        answered = answered or role == "assistant" or ROLES[role.lower()] == "assistant"
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
    role = role_of(message)
    if isinstance(role, str) and role.lower() in ROLES:
        return None
    if "role" not in message and "from" not in message:
        return Problem(path, f"{path} is missing; {KNOWN_ROLES}")
    found = quoted(role) if isinstance(role, str) else WORDS[type(role)]
    return Problem(path, f"{path} is {found}; {KNOWN_ROLES}")


def _is_assistant(message: Row) -> bool:
    return ROLES[role_of(message).lower()] == "assistant"


def _content_problem(path: str, message: Row) -> Problem | None:
    content = content_of(message)
    if isinstance(content, str):
        return None
    if content is not None:
        return Problem(path, f"{path} is {WORDS[type(content)]}; a string is needed")
    calls = message.get("tool_calls")
    if _is_assistant(message) and isinstance(calls, list) and calls:
        return None
    found = "null" if "content" in message or "value" in message else "missing"
    return Problem(path, f"{path} is {found}; only an assistant's tool_calls can do without one")


def _weight_problem(path: str, message: Row) -> Problem | None:
    # A table has the column in every row; null is no weight.
    weight = message.get("weight")
    if weight is None:
        return None
    if not _is_assistant(message):
        return Problem(path, f"{path}: only messages of the assistant can have a weight")
    if type(weight) is not int or weight not in (0, 1):
        return Problem(path, f"{path} must be 0 or 1")
    return None


def _tokens_problem(row: Row) -> Problem | None:
    ids, labels = row["input_ids"], row.get("labels")
    if not ids:
        return Problem("input_ids", '"input_ids" is an empty list')
    if not set(map(type, ids)) <= {int} or min(ids) < 0:
        return Problem("input_ids", '"input_ids" has something else than token numbers')
    if labels is None:
        return None
    if not isinstance(labels, list) or not set(map(type, labels)) <= {int}:
        return Problem("labels", '"labels" is not a list of token numbers and -100')
    if len(labels) != len(ids):
        return Problem("labels", f'"labels" has {len(labels)} numbers; "input_ids" has {len(ids)}')
    return None
