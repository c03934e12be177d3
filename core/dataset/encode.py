"""Makes tokens of examples, and labels that say which of them are learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from core.dataset.chat import ChatTemplate, Span
from core.dataset.examples import ChatExample, Example, PairExample, TextExample, TokenExample
from core.errors import InvalidArgument

IGNORED = -100
"""Label of a token that is read but not learned."""


class Tokens(NamedTuple):
    """One tokenized row, before it is cut."""

    input_ids: Sequence[int]
    labels: Sequence[int]


TOKEN_ARGUMENTS = (
    "dataset_text_field",
    "eos_token",
    "completion_only_loss",
    "assistant_only_loss",
)
"""Those of the trainer's arguments that decide what tokens a row becomes."""


@dataclass(frozen=True, slots=True)
class Masking:
    """What is trained on, by TRL's names."""

    completion_only: bool | None = None
    """None: of rows that are a prompt and a completion."""
    assistant_only: bool = False

    @classmethod
    def of(cls, training: dict[str, Any]) -> "Masking":
        """As a job's `training` has it."""
        return cls(
            completion_only=training.get("completion_only_loss"),
            assistant_only=bool(training.get("assistant_only_loss")),
        )

    def trained_on(self, example: Example) -> str:
        """In a word: everything, completions, assistant, or labels."""
        if isinstance(example, TokenExample) and example.labels is not None:
            return "labels"
        if self.assistant_only:
            return "assistant"
        is_pair = _is_pair(example)
        return "completions" if is_pair and self.completion_only is not False else "everything"


def special_tokens(tokenizer: Any) -> list[str]:
    """The texts of its tokens that are no text, like those that end a turn."""
    added = tokenizer.get_added_tokens_decoder().values()
    return [token.content for token in added if token.special]


class Encoder:
    """Tokenizes batches of examples. `tokenizer` is one of the library `tokenizers`."""

    def __init__(
        self, tokenizer: Any, *, eos_token: str | None, chat: ChatTemplate | None, masking: Masking
    ):
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._eos_token = eos_token or ""
        self._chat = chat
        self._masking = masking

    @property
    def has_chat(self) -> bool:
        """Whether messages can be rendered."""
        return self._chat is not None

    def encode(self, examples: Sequence[Example]) -> list[Tokens]:
        """All of a batch, which are of one kind; InvalidArgument when their mask cannot be."""
        if not examples:
            return []
        self._check(examples[0])
        if isinstance(examples[0], TextExample):
            return self._texts(
                [example for example in examples if isinstance(example, TextExample)]
            )
        if isinstance(examples[0], PairExample):
            return self._pairs(
                [example for example in examples if isinstance(example, PairExample)]
            )
        if isinstance(examples[0], ChatExample):
            return self._chats(
                [example for example in examples if isinstance(example, ChatExample)]
            )
        return [
            Tokens(example.input_ids, example.labels or example.input_ids)
            for example in examples
            if isinstance(example, TokenExample)
        ]

    def segments(self, tokens: Tokens) -> list[dict[str, Any]]:
        """A row as text, cut where the mask changes."""
        runs: list[tuple[bool, list[int]]] = []
        for index, token in enumerate(tokens.input_ids):
            is_trained = index > 0 and tokens.labels[index] != IGNORED
            if not runs or runs[-1][0] != is_trained:
                runs.append((is_trained, []))
            runs[-1][1].append(token)
        decode = self._tokenizer.decode
        return [
            {"text": decode(ids, skip_special_tokens=False), "trained": is_trained}
            for is_trained, ids in runs
        ]

    def _check(self, example: Example) -> None:
        if self._masking.assistant_only and not isinstance(example, ChatExample):
            raise InvalidArgument(
                "assistant_only_loss needs messages; the rows are not a chat.",
                param="training.assistant_only_loss",
            )
        if self._masking.completion_only and not _is_pair(example):
            raise InvalidArgument(
                "completion_only_loss needs rows with a prompt and a completion.",
                param="training.completion_only_loss",
            )

    @property
    def _masks_prompts(self) -> bool:
        return self._masking.completion_only is not False

    def _texts(self, examples: Sequence[TextExample]) -> list[Tokens]:
        encoded = self._ids([self._with_eos(example.text) for example in examples])
        return [Tokens(ids, ids) for ids in encoded]

    def _pairs(self, examples: Sequence[PairExample]) -> list[Tokens]:
        whole = self._ids([self._with_eos(e.prompt + e.completion) for e in examples])
        if not self._masks_prompts:
            return [Tokens(ids, ids) for ids in whole]
        prompts = self._ids([example.prompt for example in examples])
        return [
            Tokens(ids, _without_prompt(ids, prompt))
            for ids, prompt in zip(whole, prompts, strict=True)
        ]

    def _chats(self, examples: Sequence[ChatExample]) -> list[Tokens]:
        chat = self._chat
        assert chat is not None
        masked = [self._masked(chat, example) for example in examples]
        texts = [text for text, _ in masked]
        if all(spans is None for _, spans in masked):
            rows = [Tokens(ids, ids) for ids in self._ids(texts, special=False)]
        else:
            encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False)
            rows = [
                Tokens(row.ids, row.ids if spans is None else _labels(row, spans, len(text)))
                for row, (text, spans) in zip(encoded, masked, strict=True)
            ]
        return self._without_prompts(chat, examples, rows)

    def _without_prompts(
        self, chat: ChatTemplate, examples: Sequence[ChatExample], rows: list[Tokens]
    ) -> list[Tokens]:
        if not self._masks_prompts or not examples[0].prompt_messages:
            return rows
        texts = [chat.prompt(example, example.prompt_messages) for example in examples]
        prompts = self._ids(texts, special=False)
        return [
            Tokens(row.input_ids, _without_prompt(row.input_ids, prompt, row.labels))
            for row, prompt in zip(rows, prompts, strict=True)
        ]

    def _masked(self, chat: ChatTemplate, example: ChatExample) -> tuple[str, list[Span] | None]:
        """The text of a chat, and what of it is learned; None for all."""
        if not self._masking.assistant_only:
            text = chat.text(example)
            if not example.weightless:
                return text, None
            spans = [(0, len(text))]
        elif chat.has_markers:
            text, spans = chat.marked(example)
        else:
            text = chat.text(example)
            spans = [
                span
                for index, message in enumerate(example.messages)
                if message["role"] == "assistant"
                and (span := chat.answer(example, text, index)) is not None
            ]
        for index in example.weightless:
            hidden = chat.answer(example, text, index)
            if hidden is not None:
                spans = [part for span in spans for part in _minus(span, hidden)]
        return text, spans

    def _with_eos(self, text: str) -> str:
        return text if text.endswith(self._eos_token) else text + self._eos_token

    def _ids(self, texts: list[str], *, special: bool = True) -> list[list[int]]:
        rows = self._tokenizer.encode_batch_fast(texts, add_special_tokens=special)
        return [row.ids for row in rows]


def _is_pair(example: Example) -> bool:
    if isinstance(example, ChatExample):
        return example.prompt_messages > 0
    return isinstance(example, PairExample)


def _without_prompt(
    ids: Sequence[int], prompt: Sequence[int], labels: Sequence[int] | None = None
) -> list[int]:
    """The completion begins where the row stops to be its prompt, as TRL has it."""
    count = 0
    for left, right in zip(ids, prompt, strict=False):
        if left != right:
            break
        count += 1
    return [IGNORED] * count + list((ids if labels is None else labels)[count:])


def _labels(row: Any, spans: Sequence[Span], length: int) -> list[int]:
    """The tokens that have a character of a span in them."""
    ids = row.ids
    labels = [IGNORED] * len(ids)
    for start, end in spans:
        first = _token_at(row, range(start, end))
        last = _token_at(row, range(min(end, length) - 1, start - 1, -1))
        if first is not None and last is not None:
            labels[first : last + 1] = ids[first : last + 1]
    return labels


def _token_at(row: Any, places: range) -> int | None:
    """The token of the first of these characters that has one: white space may have none."""
    found = (row.char_to_token(place) for place in places)
    return next((token for token in found if token is not None), None)


def _minus(span: Span, hidden: Span) -> list[Span]:
    parts = [(span[0], min(span[1], hidden[0])), (max(span[0], hidden[1]), span[1])]
    return [part for part in parts if part[0] < part[1]]
