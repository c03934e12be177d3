"""Counts the tokens of a file for a model, in a process of its own: `core.isolated` runs this.

Tokenizer, template and rows are a stranger's. A large file is sampled, and the report says so.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from core.dataset.chat import ChatTemplate
from core.dataset.encode import Encoder, Masking, Tokens, special_tokens
from core.dataset.examples import Convert, Example, Reading, convert_at
from core.dataset.reading import Source, rows_of
from core.dataset.tokens import Cutting, TokenCounter, pick_samples
from core.errors import InvalidArgument, InvalidModel

BATCH_ROWS = 256
DEFAULT_MAX_LENGTH = 1024
"""SFTConfig's own."""
TOKENIZER, CONFIG, CHAT_TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
SPECIAL_TOKENS = "special_tokens_map.json"
"""Where older models say what tokenizer_config.json says today."""
NO_TOKENIZER = (
    f"The model has no {TOKENIZER}, so its tokens are counted by the job itself, before it trains."
)


def work(request: dict[str, Any], chunks: Iterator[bytes]) -> dict[str, Any]:
    """The answer to what the API asks."""
    return report(request)


def report(request: dict[str, Any]) -> dict[str, Any]:
    """The token report of the rows, every n-th of them when there are more than `max_rows`."""
    training = request["training"]
    source = Source(Path(request["path"]), request["format"], request["compression"])
    encoder = _encoder(Path(request["model"]), request["chat_template"], training)
    reading = Reading(
        template=request["template"],
        text_field=training.get("dataset_text_field"),
        shape=request["shape"],
    )
    counter = TokenCounter(_cutting(training))
    stride = max(1, -(-request["rows"] // request["max_rows"]))
    rows = rows_of(source, every=stride)
    convert: Convert | None = None
    trained_on, shown = "everything", list[tuple[str, Tokens]]()
    while batch := list(islice(rows, BATCH_ROWS)):
        convert = convert or reading.converter(batch[0][1], has_chat_template=encoder.has_chat)
        places = [f"{source.place_name} {number}" for number, _ in batch]
        pairs = zip(places, batch, strict=True)
        examples = [convert_at(convert, place, row) for place, (_, row) in pairs]
        trained_on = Masking.of(training).trained_on(examples[0])
        tokens = _encode(encoder, examples)
        for row in tokens:
            counter.add(row)
        shown += zip(places, tokens, strict=True) if not shown else [(places[-1], tokens[-1])]
    total = request["rows"] if stride > 1 else None
    samples = pick_samples(encoder, shown)
    return counter.report(trained_on=trained_on, samples=samples, total_rows=total).to_dict()


def _encode(encoder: Encoder, examples: list[Example]) -> list[Tokens]:
    try:
        return encoder.encode(examples)
    except BaseException as error:
        # What the library could not do; it is no Exception, and has no class to name.
        if type(error).__name__ != "PanicException":
            raise
        raise InvalidModel(f"The model's tokenizer fails: {error}.", param="model") from error


def _cutting(training: dict[str, Any]) -> Cutting:
    given = Cutting(max_length=training.get("max_length", DEFAULT_MAX_LENGTH))
    return Cutting(
        max_length=given.max_length,
        keeps_end=training.get("truncation_mode") == "keep_end",
        packing=bool(training.get("packing")),
        packing_strategy=training.get("packing_strategy", given.packing_strategy),
        batch_rows=training.get("per_device_train_batch_size", given.batch_rows),
    )


def _encoder(model: Path, chat_template: str | None, training: dict[str, Any]) -> Encoder:
    file = model / TOKENIZER
    if not file.is_file():
        raise InvalidArgument(NO_TOKENIZER, param="model")
    try:
        tokenizer = Tokenizer.from_file(str(file))
        config = _object(model / SPECIAL_TOKENS) | _object(model / CONFIG)
        own_template = _chat_template(model, config)
    except Exception as error:  # the library raises Exception itself for a file it cannot read
        raise InvalidModel("The model's tokenizer cannot be read.", param="model") from error
    texts = {
        name: text
        for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        if (text := _text(config.get(name)))
    }
    source = chat_template or own_template
    chat = None
    if source is not None:
        chat = ChatTemplate(source, texts, [*special_tokens(tokenizer), *texts.values()])
    eos_token = training.get("eos_token") or texts.get("eos_token")
    return Encoder(tokenizer, eos_token=eos_token, chat=chat, masking=Masking.of(training))


def _chat_template(model: Path, config: dict[str, Any]) -> str | None:
    file = model / CHAT_TEMPLATE
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):
        named = {each["name"]: each["template"] for each in found}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _object(path: Path) -> dict[str, Any]:
    """A JSON file; nothing where there is none."""
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return found


def _text(token: Any) -> str | None:
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None
