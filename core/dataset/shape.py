"""The shapes of rows that can be trained on, and what is wrong with rows of no shape."""

from typing import Any

from core.dataset.report import Shape

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

Problem = tuple[str | None, str]
"""Column and reason."""


def detect_shape(row: dict[str, Any]) -> Shape:
    """The shape that the first row decides on for all of its file."""
    if "messages" in row:
        return "messages"
    if "prompt" in row and "completion" in row:
        return "prompt_completion"
    if "text" in row:
        return "text"
    return "columns"


def check_row(row: dict[str, Any], shape: Shape) -> Problem | None:
    """What is wrong with a row of a file of this shape; None when it is right."""
    if shape == "messages":
        return _check_messages(row)
    if shape == "prompt_completion":
        return _check_pair(row)
    if shape == "text":
        return _check_text(row, "text")
    return None if row else (None, "is an empty object.")


def _check_text(row: dict[str, Any], name: str) -> Problem | None:
    if name not in row:
        return (f'"{name}"', "is missing; the rows before it have one.")
    value = row[name]
    if isinstance(value, str):
        return None
    return (f'"{name}"', f"is {_kind(value)}; a string is needed.")


def _check_messages(row: dict[str, Any]) -> Problem | None:
    if "messages" not in row:
        return ('"messages"', "is missing; the rows before it have them.")
    problem = _check_list(row["messages"], "messages")
    if problem is not None:
        return problem
    if all(message["role"] != "assistant" for message in row["messages"]):
        return ("messages", "has no message of the assistant to learn from.")
    return None


def _check_pair(row: dict[str, Any]) -> Problem | None:
    prompt, completion = row.get("prompt"), row.get("completion")
    for name, value in (("prompt", prompt), ("completion", completion)):
        if name not in row:
            return (f'"{name}"', "is missing; the rows before it have one.")
        if isinstance(value, list):
            problem = _check_list(value, name)
            if problem is not None:
                return problem
        elif not isinstance(value, str):
            return (f'"{name}"', f"is {_kind(value)}; a string or a list of messages is needed.")
    if type(prompt) is not type(completion):
        return (None, "has a string and a list of messages; prompt and completion must be alike.")
    return None


def _check_list(messages: Any, name: str) -> Problem | None:
    if not isinstance(messages, list):
        return (f'"{name}"', f"is {_kind(messages)}; a list of messages is needed.")
    if not messages:
        return (f'"{name}"', "is empty.")
    for index, message in enumerate(messages):
        problem = _check_message(message, f"{name}[{index}]")
        if problem is not None:
            return problem
    return None


def _check_message(message: Any, path: str) -> Problem | None:
    if not isinstance(message, dict):
        return (path, f"is {_kind(message)}; an object with role and content is needed.")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        return (f"{path}.role", f"is {_shown(role)}; use user, assistant, system or tool.")
    weight = message.get("weight")
    if weight is not None and (role != "assistant" or weight not in (0, 1) or weight is True):
        return (f"{path}.weight", "must be 0 or 1, on messages of the assistant only.")
    if isinstance(content, str):
        return None
    if content is None and message.get("tool_calls"):
        return None
    return (f"{path}.content", f"is {_kind(content)}; a string is needed.")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    return f'"{value[:40]}"' if isinstance(value, str) else _kind(value)
