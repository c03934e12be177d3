"""What a model folder of this server lacks for a training, found before a worker is taken."""

import json
from pathlib import Path

from core.errors import InvalidArgument
from core.model_facts import MAX_CONFIG_BYTES, parse_config, read_bounded

TOKENIZER_CONFIG, CHAT_TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
VOCABULARIES = ("tokenizer.json", "*.model", "*.tiktoken", "vocab.*", "tekken.json")
"""One of these is what a tokenizer is made of."""


def check_model_folder(name: str, folder: Path, *, is_chat: bool) -> None:
    """InvalidArgument for a model that could not be loaded, or not for these rows.

    A folder that is not complete yet, without any weights, is looked at by the worker only.
    """
    parse_config(name, read_bounded(folder / "config.json", MAX_CONFIG_BYTES))
    if not any(folder.glob("*.safetensors")):
        return
    if not any(file for pattern in VOCABULARIES for file in folder.glob(pattern)):
        raise InvalidArgument(
            f"The model {name} has no tokenizer: put its tokenizer.json into the folder.",
            param="model",
        )
    if is_chat and not _has_chat_template(folder):
        raise InvalidArgument(
            f"The rows are a chat, and {name} has no chat template. Give a chat_template, or a "
            "template that makes a text of a row, or take a model for chats.",
            param="chat_template",
        )


def _has_chat_template(folder: Path) -> bool:
    """Whether it has one; of a description that cannot be read, the worker tells what is wrong."""
    if (folder / CHAT_TEMPLATE).is_file():
        return True
    path = folder / TOKENIZER_CONFIG
    if not path.is_file():
        return False
    try:
        config = json.loads(read_bounded(path, MAX_CONFIG_BYTES))
    except (ValueError, RecursionError):
        return True
    return not isinstance(config, dict) or bool(config.get("chat_template"))
