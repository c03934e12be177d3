"""Model facts come from config.json and safetensors headers."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidArgument
from core.model_facts import facts_of_folder

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}


def write_model(folder: Path, config: Any, **tensors: list[int]) -> Path:
    """A model folder whose weights have a header and no content."""
    (folder / "config.json").write_text(json.dumps(config))
    if tensors:
        entries = {
            name.replace("__", "."): {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
            for name, shape in tensors.items()
        }
        header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


def test_parameters_are_counted_in_the_headers_without_a_head_that_is_shared(
    tmp_path: Path,
) -> None:
    write_model(tmp_path, LLAMA, model__embed_tokens__weight=[2048, 64], lm_head__weight=[2048, 64])

    facts = facts_of_folder("local/x", tmp_path)

    assert facts.parameters == 2048 * 64
    assert facts.has_weights


def test_a_folder_without_weights_is_counted_by_its_configuration(tmp_path: Path) -> None:
    facts = facts_of_folder("local/x", write_model(tmp_path, LLAMA))

    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 172 + 2 * 64
    assert facts.parameters == 2048 * 64 + 2 * layer
    assert facts.family == "llama"
    assert facts.kv_width == 32
    assert not facts.has_weights


def test_gpt2_is_known_by_its_own_names(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 512}

    facts = facts_of_folder("local/x", write_model(tmp_path, config | {"n_positions": 128}))

    assert (facts.family, facts.intermediate, facts.positions) == ("gpt2", 256, 128)
    assert facts.attention_dropout == 0.1


def test_an_unknown_architecture_is_generic(tmp_path: Path) -> None:
    facts = facts_of_folder("local/x", write_model(tmp_path, LLAMA | {"model_type": "mamba9"}))

    assert facts.family == "generic"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "no hidden_size"),
        ([], "not an object"),
        (LLAMA | {"vocab_size": "many"}, "vocab_size in its config.json is not a size"),
        (LLAMA | {"num_hidden_layers": -1}, "is not a size"),
    ],
)
def test_a_configuration_that_cannot_be_read_says_why(
    tmp_path: Path, config: Any, reason: str
) -> None:
    with pytest.raises(InvalidArgument, match=reason) as raised:
        facts_of_folder("local/x", write_model(tmp_path, config))
    assert raised.value.param == "model"


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, struct.pack("<Q", 4) + b"{[}]"])
def test_damaged_weights_are_named(tmp_path: Path, content: bytes) -> None:
    write_model(tmp_path, LLAMA)
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(InvalidArgument, match=r"model\.safetensors"):
        facts_of_folder("local/x", tmp_path)
