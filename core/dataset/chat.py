"""Chat templates, rendered as transformers renders them, and where in the text each answer is.

A template may mark what the assistant says with {% generation %}. Few do. For the others the place
of an answer is found by rendering the chat up to it, as one does to ask the model for it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.dataset.examples import ChatExample
from core.dataset.shapes import Row
from core.errors import InvalidTemplate

Span = tuple[int, int]

MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
STAND_IN = "\ue000\ue001"
"""Characters that no text has, in place of an answer, to see where it goes."""
FAILURES = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError)


class ChatTemplate:
    """A compiled chat template. InvalidTemplate when it cannot be compiled or refuses a chat."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], stops: Sequence[str] = ()):
        self._environment = _Environment()
        self._special_tokens = special_tokens
        self._stops = tuple(stop for stop in stops if stop)
        """Tokens that end a turn: white space after them is nothing that a model says."""
        self.has_markers = MARKER.search(source) is not None
        try:
            self._template = self._environment.from_string(source)
        except (TemplateError, RecursionError, SyntaxError) as error:
            raise _invalid(error) from error

    def text(self, chat: ChatExample, *, messages: Sequence[Row] | None = None) -> str:
        """The whole chat, or these messages in its place."""
        return self._render(chat, chat.messages if messages is None else messages)

    def prompt(self, chat: ChatExample, count: int) -> str:
        """The first messages of a chat, and what stands before the answer to them."""
        return self._render(chat, chat.messages[:count], asks=True)

    def marked(self, chat: ChatExample) -> tuple[str, list[Span]]:
        """The chat, and what the template itself marks as said by the assistant."""
        with self._environment.marking() as spans:
            return self._render(chat, chat.messages), spans

    def answer(self, chat: ChatExample, text: str, index: int) -> Span | None:
        """Where in the text of the chat the assistant's message of this index is.

        From where the model goes on by itself to the token that ends its turn. None when the
        template does not show the message.
        """
        difference: Span | None = None
        prompt = self._try(chat, chat.messages[:index], asks=True)
        if prompt is not None and text.startswith(prompt):
            start = len(prompt)
        else:
            difference = self._difference(chat, text, index)
            if difference is None:
                return None
            start = difference[0]
        until = self._try(chat, chat.messages[: index + 1])
        if until is not None and len(until) > start and text.startswith(until):
            return start, self._stop_after(text, start, len(until))
        difference = difference or self._difference(chat, text, index)
        if difference is None:
            return None
        return start, self._stop_after(text, start, max(start, difference[1]))

    def _difference(self, chat: ChatExample, text: str, index: int) -> Span | None:
        """What changes in the text when something else is said in this message."""
        messages = list(chat.messages)
        messages[index] = {"role": "assistant", "content": STAND_IN}
        other = self._try(chat, messages)
        if other is None or STAND_IN not in other:
            return None
        start = _common(text, other)
        rest = min(len(text), len(other)) - start
        end = len(text) - min(rest, _common(text[::-1], other[::-1]))
        return start, end

    def _stop_after(self, text: str, start: int, end: int) -> int:
        """The end of the token that ends a turn, and of nothing that follows it."""
        said = text[start:end].rstrip()
        if any(said.endswith(stop) for stop in self._stops):
            return start + len(said)
        # Some models stop by the token that begins the next turn.
        return end + next((len(stop) for stop in self._stops if text.startswith(stop, end)), 0)

    def _try(self, chat: ChatExample, messages: Sequence[Row], *, asks: bool = False) -> str | None:
        """A part of the chat; None when the template refuses chats that end so."""
        try:
            return self._render(chat, messages, asks=asks)
        except InvalidTemplate:
            return None

    def _render(self, chat: ChatExample, messages: Sequence[Row], *, asks: bool = False) -> str:
        variables = {**self._special_tokens, **chat.variables}
        blocks = self._environment.blocks
        blocks.clear()
        try:
            for block in self._template.generate(
                {
                    **variables,
                    "messages": messages,
                    "tools": chat.tools,
                    "documents": None,
                    "add_generation_prompt": asks,
                }
            ):
                blocks.append(block)
        except FAILURES as error:
            raise _invalid(error) from error
        return "".join(blocks)


class _Environment(ImmutableSandboxedEnvironment):
    """What transformers offers to chat templates."""

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        self.blocks: list[str] = []
        """What was rendered so far."""
        self.spans: list[Span] | None = None
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = lambda form: datetime.now().strftime(form)  # noqa: DTZ005

    @contextmanager
    def marking(self) -> Iterator[list[Span]]:
        self.spans = []
        try:
            yield self.spans
        finally:
            self.spans = None


class _Generation(Extension):
    """{% generation %}: its content is said by the assistant."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own protocol

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Any) -> str:
        said: str = caller()
        environment = self.environment
        assert isinstance(environment, _Environment)
        if environment.spans is not None:
            start = sum(map(len, environment.blocks))
            environment.spans.append((start, start + len(said)))
        return said


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes < and > for HTML.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _invalid(error: Exception) -> InvalidTemplate:
    said = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    return InvalidTemplate(f"the chat template fails: {said}", param="chat_template")


def _common(left: str, right: str) -> int:
    """How many characters both begin with."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
