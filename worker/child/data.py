"""Reads the rows of an order, and makes tokens of them that are kept on disk."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import load_from_disk
from datasets.features.features import require_decoding
from transformers import PreTrainedTokenizerBase

from core.dataset import FormatName
from core.dataset.chat import ChatTemplate
from core.dataset.encode import Encoder, Masking, Tokens, special_tokens
from core.dataset.examples import Example, Reading, convert_at
from core.dataset.reading import Source, rows_of
from core.dataset.shapes import Row
from core.dataset.tokens import pick_samples
from core.errors import InvalidArgument, InvalidFile
from worker.child.failure import ChildFailure
from worker.child.order import DataSource, Order
from worker.child.tokenstore import StoredTokens, TokenWriter, load_tokens

BATCH_ROWS = 512


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


def load_tokens_of(order: Order, part: Part, tokenizer: PreTrainedTokenizerBase) -> StoredTokens:
    """The tokens of all rows, from the cache of this machine where it has them.

    ChildFailure names the row that cannot be used. Nothing but the file itself is ever opened:
    the formats' own loaders follow links that are written in the data.
    """
    folder = _folder(order, part)
    if folder.exists():
        made = load_tokens(folder)
        if made is not None:
            return made
        shutil.rmtree(folder)
    try:
        return _tokenize(order, part, tokenizer)
    except InvalidFile as error:
        raise part.refuse(error.message) from error
    except InvalidArgument as error:
        raise ChildFailure("invalid_argument", error.message, param=error.param) from error


def _tokenize(order: Order, part: Part, tokenizer: PreTrainedTokenizerBase) -> StoredTokens:
    encoder = _encoder(order, tokenizer)
    rows = _examples(order, part, has_chat_template=bool(tokenizer.chat_template))
    shown: list[tuple[str, Tokens]] = []
    with TokenWriter(_folder(order, part)) as writer:
        trained_on = "everything"
        while batch := list(islice(rows, BATCH_ROWS)):
            examples = [example for _, example in batch]
            trained_on = Masking.of(order.training).trained_on(examples[0])
            tokens = encoder.encode(examples)
            writer.write(tokens)
            places = [place for place, _ in batch]
            shown = _shown(shown, list(zip(places, tokens, strict=True)))
        if not writer.rows:
            raise part.refuse("There are no examples.")
        return writer.finish(trained_on=trained_on, samples=pick_samples(encoder, shown))


def _folder(order: Order, part: Part) -> Path:
    return order.scratch / "tokens" / (part.source.tokens_key or part.name)


def _shown(
    before: list[tuple[str, Tokens]], batch: list[tuple[str, Tokens]]
) -> list[tuple[str, Tokens]]:
    """The first row, one of the middle and the last, of all that was seen so far."""
    if not before:
        return [batch[0], batch[len(batch) // 2], batch[-1]] if len(batch) > 2 else batch
    return [before[0], before[-1], batch[-1]]


def _encoder(order: Order, tokenizer: PreTrainedTokenizerBase) -> Encoder:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ChildFailure(
            "invalid_model",
            f"The tokenizer of {order.public_model} is not one of the library tokenizers.",
            param="model",
        )
    template = tokenizer.get_chat_template() if tokenizer.chat_template else None
    chat = None
    if template is not None:
        texts = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        stops = [*special_tokens(backend), *tokenizer.all_special_tokens]
        chat = ChatTemplate(template, texts, stops)
    return Encoder(
        backend,
        eos_token=order.training.get("eos_token") or tokenizer.eos_token,
        chat=chat,
        masking=Masking.of(order.training),
    )


def _examples(
    order: Order, part: Part, *, has_chat_template: bool
) -> Iterator[tuple[str, Example]]:
    reading = Reading(
        template=order.template,
        text_field=order.training.get("dataset_text_field"),
        shape=order.shape,
    )
    convert = None
    for place, row in _rows(part):
        convert = convert or reading.converter(row, has_chat_template=has_chat_template)
        yield place, convert_at(convert, place, row)


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


def _file_rows(part: Part, format_name: FormatName) -> Iterator[tuple[str, Any]]:
    source = Source(part.source.path, format_name, part.source.compression)
    for number, row in rows_of(source):
        yield f"{source.place_name} {number}", row
