"""From rows of any shape to what is tokenized: a text, a pair of texts, a chat, or tokens."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from core.dataset.report import ShapeName
from core.dataset.shapes import (
    ROLES,
    Problem,
    Row,
    Shape,
    column_problem,
    content_of,
    nested_problem,
    quoted,
    role_of,
    shape_named,
    shape_of,
)
from core.errors import InvalidFile, InvalidTemplate
from core.template import compile_template

DEFAULT_TEXT_FIELD = "text"
REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names for what an assistant thought before its answer; templates read the first two."""

ALPACA = (
    "Below is an instruction that describes a task{also}. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{instruction}\n\n{input}### Response:\n"
)
"""The prompt that such data was published with, for models without a chat template."""


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text to learn as a whole."""

    text: str


@dataclass(frozen=True, slots=True)
class PairExample:
    """A text to read and one to go on with."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class ChatExample:
    """Messages with the keys that chat templates know."""

    messages: Sequence[Row]
    prompt_messages: int = 0
    """How many of them are the prompt of a completion; 0 when they are just a chat."""
    weightless: frozenset[int] = frozenset()
    """Messages of the assistant that are read and not learned."""
    tools: Any = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What else the template can see."""


@dataclass(frozen=True, slots=True)
class TokenExample:
    """Tokens, and what to learn of them."""

    input_ids: Sequence[int]
    labels: Sequence[int] | None


Example = TextExample | PairExample | ChatExample | TokenExample
Convert = Callable[[Row], Example]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a job reads the rows of its data."""

    template: str | None = None
    """Jinja over a row that gives its text."""
    text_field: str | None = None
    """`training.dataset_text_field`, if the user gave it."""
    shape: ShapeName | None = None
    """The shape that the user says the rows have."""

    def converter(self, first: Row, *, has_chat_template: bool) -> Convert:
        """What makes examples of rows like this one; InvalidFile when nothing does.

        The converter itself raises InvalidFile or InvalidTemplate for a row that is not like it.
        """
        if self.template is not None:
            render = compile_template(self.template).render
            return lambda row: TextExample(render(row))
        text_field = self.text_field or DEFAULT_TEXT_FIELD
        is_named = self.shape is None and self.text_field is not None
        if self.shape == "text" or (is_named and text_field in first):
            return _of_text(text_field)
        if is_named and text_field != DEFAULT_TEXT_FIELD:
            raise InvalidFile(_no_shape(first, None))
        shape = shape_of(first) if self.shape is None else shape_named(self.shape, first)
        if shape is None or shape.name == "columns":
            raise InvalidFile(_no_shape(first, self.shape))
        return _of_shape(shape, has_chat_template=has_chat_template)


def _no_shape(first: Row, wanted: ShapeName | None) -> str:
    names = ", ".join(quoted(name) for name in list(first)[:20])
    what = "of no known shape" if wanted in (None, "columns") else f"not of the shape {wanted}"
    return (
        f"The rows are {what}: the columns of the first are {names}. Name a text column in "
        "training.dataset_text_field, or give a template."
    )


def _of_text(name: str) -> Convert:
    def convert(row: Row) -> Example:
        text = row.get(name)
        if not isinstance(text, str):
            problem = "is missing" if text is None else "is not a text"
            raise InvalidFile(f'"{name}" {problem}')
        return TextExample(text)

    return convert


def _of_shape(shape: Shape, *, has_chat_template: bool) -> Convert:
    make = _MAKERS[shape.name]
    if shape.name == "alpaca":
        make = _alpaca_chat if has_chat_template else _alpaca_text
    elif shape.message_columns and not has_chat_template:
        raise InvalidFile(
            "This model has no chat template, so it cannot be trained on messages. Give a "
            "chat_template, a template that makes a text of a row, or use prompt and completion "
            "as texts."
        )

    def convert(row: Row) -> Example:
        # A chat without an answer can still be learned as a whole.
        problem = column_problem(shape, row) or nested_problem(
            shape, row, Counter(), must_answer=False
        )
        if problem is not None:
            raise InvalidFile(_in_a_row(problem))
        return make(row)

    return convert


def _in_a_row(problem: Problem) -> str:
    return problem.reason.partition("; the rows before it")[0]


def _text(row: Row) -> Example:
    return TextExample(row["text"])


def _tokens(row: Row) -> Example:
    return TokenExample(row["input_ids"], row.get("labels"))


def _pair(row: Row) -> Example:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str):
        return PairExample(prompt, completion)
    return _chat(row, [*prompt, *completion], prompt_messages=len(prompt))


def _messages(row: Row) -> Example:
    return _chat(row, row["messages"])


def _conversations(row: Row) -> Example:
    messages = row["conversations"]
    if isinstance(row.get("system"), str) and role_of(messages[0]) != "system":
        messages = [{"role": "system", "content": row["system"]}, *messages]
    return _chat(row, messages)


def _alpaca_chat(row: Row) -> Example:
    question = f"{row['instruction']}\n\n{row['input']}" if row.get("input") else row["instruction"]
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": row["output"]},
    ]
    return _chat(row, messages, prompt_messages=1)


def _alpaca_text(row: Row) -> Example:
    given = row.get("input")
    prompt = ALPACA.format(
        also=", paired with an input that provides further context" if given else "",
        instruction=row["instruction"],
        input=f"### Input:\n{given}\n\n" if given else "",
    )
    return PairExample(prompt, row["output"])


_MAKERS: Mapping[ShapeName, Convert] = {
    "text": _text,
    "messages": _messages,
    "conversations": _conversations,
    "prompt_completion": _pair,
    "alpaca": _alpaca_chat,
    "input_ids": _tokens,
}


def _chat(row: Row, messages: Sequence[Row], *, prompt_messages: int = 0) -> ChatExample:
    weightless = (index for index, message in enumerate(messages) if message.get("weight") == 0)
    variables = row.get("chat_template_kwargs")
    return ChatExample(
        messages=[_message(message) for message in messages],
        prompt_messages=prompt_messages,
        weightless=frozenset(weightless),
        tools=_tools(row.get("tools")),
        variables=variables if isinstance(variables, dict) else {},
    )


def _message(message: Row) -> Row:
    """A message as chat templates know it; tables have every key in every message, as null."""
    ours = {"role", "from", "content", "value", "weight", "tool_calls"}
    clean = {"role": ROLES[role_of(message).lower()], "content": content_of(message) or ""}
    clean |= {key: value for key, value in message.items() if key not in ours and value is not None}
    if message.get("tool_calls"):
        clean["tool_calls"] = [_tool_call(call) for call in message["tool_calls"]]
    thought = next((clean[name] for name in REASONING if name in clean), None)
    if thought is not None:
        clean = {"thinking": thought, **clean, "reasoning_content": thought}
    return clean


def _tool_call(call: Any) -> Any:
    """A call with its arguments as an object, as templates want them; OpenAI sends JSON."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = orjson.loads(function["arguments"])
    except orjson.JSONDecodeError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _tools(tools: Any) -> Any:
    if isinstance(tools, str):
        try:
            tools = orjson.loads(tools)
        except orjson.JSONDecodeError as error:
            raise InvalidFile(f'"tools" is not JSON: {error}') from error
    if tools is not None and not isinstance(tools, list):
        raise InvalidFile('"tools" is not a list')
    return tools or None


def convert_at(convert: Convert, place: str, row: Row) -> Example:
    """The example of a row; an error says where the row is."""
    try:
        return convert(row)
    except InvalidFile as error:
        raise InvalidFile(f"{place}: {error.message}.") from error
    except InvalidTemplate as error:
        raise InvalidTemplate(f"{place}: {error.message}", param="template") from error
