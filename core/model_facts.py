"""What a model is made of, from its config.json and the headers of its safetensors: no torch."""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

from core.errors import InvalidArgument

Family = Literal["opt", "llama", "qwen", "gpt2", "generic"]

FAMILIES: dict[str, Family] = {
    "opt": "opt",
    "gpt2": "gpt2",
    "qwen2": "qwen",
    "qwen3": "qwen",
    "llama": "llama",
    "mistral": "llama",
    "smollm3": "llama",
    "granite": "llama",
}
"""By config.json's model_type: those whose layers were counted."""

MAX_SIZE = 2**40
MAX_CONFIG_BYTES = 4 * 1024**2
MAX_HEADER_BYTES = 64 * 1024**2
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The sizes that memory, time and disk follow from."""

    model: str
    family: Family
    """`generic`: an architecture that nobody counted; what is predicted is less certain."""
    model_type: str
    parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    positions: int | None
    """The most tokens that it reads at once; null when it does not say."""
    tied_embeddings: bool
    dtype: str
    dropout: float = 0.0
    attention_dropout: float = 0.0
    has_weights: bool = True
    """Whether the parameters were counted in the files; else they follow from config.json."""

    @property
    def is_gated(self) -> bool:
        """Whether an MLP has three matrices in place of two."""
        return self.family not in ("opt", "gpt2")

    @property
    def kv_width(self) -> int:
        """Width of the keys of a layer, which is that of its values."""
        return self.kv_heads * self.head_dim

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """In and out of every linear map of a layer, by the name that LoRA knows it by."""
        hidden, wide, query = self.hidden, self.intermediate, self.heads * self.head_dim
        if self.family == "gpt2":
            return {
                "c_attn": (hidden, 3 * hidden),
                "attn.c_proj": (hidden, hidden),
                "c_fc": (hidden, wide),
                "mlp.c_proj": (wide, hidden),
            }
        attention = {"q_proj": (hidden, query), "k_proj": (hidden, self.kv_width)}
        attention |= {"v_proj": (hidden, self.kv_width)}
        if self.family == "opt":
            return attention | {
                "out_proj": (query, hidden),
                "fc1": (hidden, wide),
                "fc2": (wide, hidden),
            }
        return attention | {
            "o_proj": (query, hidden),
            "gate_proj": (hidden, wide),
            "up_proj": (hidden, wide),
            "down_proj": (wide, hidden),
        }

    @property
    def layer_parameters(self) -> int:
        """Those of the matrices of one layer."""
        return sum(rows * columns for rows, columns in self.matrices.values())

    @property
    def head_parameters(self) -> int:
        """Those of the map to the vocabulary, shared with the embedding or not."""
        return self.vocabulary * self.hidden

    def as_dict(self) -> dict[str, Any]:
        """As the plan shows it."""
        return {
            "model": self.model,
            "family": self.family,
            "model_type": self.model_type,
            "parameters": self.parameters,
            "layers": self.layers,
            "hidden_size": self.hidden,
            "vocabulary_size": self.vocabulary,
            "max_positions": self.positions,
            "tied_embeddings": self.tied_embeddings,
            "dtype": self.dtype,
        }


Shapes = Mapping[str, tuple[list[int], str]]
"""Shape and type of each tensor by its name."""


def facts_of_folder(name: str, folder: Path, *, shapes: Shapes | None = None) -> ModelFacts:
    """The facts of a model folder; InvalidArgument says which file cannot be read, and why.

    With `shapes` these are its tensors, and none of them means those of its configuration.
    """
    config = parse_config(name, read_bounded(folder / "config.json", MAX_CONFIG_BYTES))
    return make_facts(name, config, weight_shapes(name, folder) if shapes is None else shapes)


def weight_shapes(name: str, folder: Path) -> dict[str, tuple[list[int], str]]:
    """The tensors of the files that the library would load: not of copies that lie beside them."""
    shapes: dict[str, tuple[list[int], str]] = {}
    for path in _weight_files(folder):
        with path.open("rb") as file:
            size = header_size(name, path.name, file.read(8))
            shapes |= parse_header(name, path.name, file.read(size))
    return shapes


def _weight_files(folder: Path) -> list[Path]:
    whole = folder / WEIGHTS
    if whole.is_file():
        return [whole]
    shards = sorted(folder.glob("model-*.safetensors"))
    return shards or sorted(folder.glob("*.safetensors"))


def read_bounded(path: Path, limit: int) -> bytes:
    """All of a small file."""
    with path.open("rb") as file:
        return file.read(limit + 1)


def parse_config(name: str, raw: bytes) -> dict[str, Any]:
    """config.json as an object; that of the text part where a model has several."""
    try:
        config = json.loads(raw[:MAX_CONFIG_BYTES])
    except (ValueError, RecursionError) as error:
        raise _unreadable(name, f"its config.json is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise _unreadable(name, "its config.json is not an object")
    text = config.get("text_config")
    if isinstance(text, dict):
        return {"model_type": config.get("model_type"), **text}
    return config


def header_size(name: str, file: str, first: bytes) -> int:
    """How long the header of a safetensors file is, by its first eight bytes."""
    size = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
    if not 2 <= size <= MAX_HEADER_BYTES:
        raise _unreadable(name, f"{file} has no safetensors header")
    return int(size)


def parse_header(name: str, file: str, raw: bytes) -> dict[str, tuple[list[int], str]]:
    """Shape and type of each tensor of a safetensors file."""
    try:
        header = json.loads(raw)
        shapes = {
            tensor: (list(entry["shape"]), str(entry["dtype"]))
            for tensor, entry in header.items()
            if tensor != "__metadata__"
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _unreadable(name, f"the header of {file} is damaged") from error
    if not all(_is_size(size) for shape, _ in shapes.values() for size in shape):
        raise _unreadable(name, f"the header of {file} has a shape that is none")
    return shapes


def _is_size(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_SIZE


def make_facts(name: str, config: Mapping[str, Any], shapes: Shapes) -> ModelFacts:
    """The facts that follow from a configuration, with parameters counted in `shapes` if any."""
    model_type = str(config.get("model_type", ""))
    family = FAMILIES.get(model_type, "generic")
    read = _Reader(name, config)
    hidden = read.size("hidden_size", "n_embd", "d_model")
    heads = read.size("num_attention_heads", "n_head", "n_heads")
    tied = bool(config.get("tie_word_embeddings", True))
    facts = ModelFacts(
        model=name,
        family=family,
        model_type=model_type,
        parameters=0,
        layers=read.size("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        hidden=hidden,
        intermediate=read.size("intermediate_size", "ffn_dim", "n_inner", default=4 * hidden),
        heads=heads,
        kv_heads=read.size("num_key_value_heads", default=heads),
        head_dim=read.size("head_dim", default=max(1, hidden // heads)),
        vocabulary=read.size("vocab_size"),
        positions=read.optional("max_position_embeddings", "n_positions", "n_ctx"),
        tied_embeddings=tied,
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32"),
        dropout=read.share("dropout", "resid_pdrop"),
        attention_dropout=read.share("attention_dropout", "attn_pdrop"),
        has_weights=bool(shapes),
    )
    counted = _count(facts, shapes) if shapes else _by_formula(facts)
    return _with_parameters(facts, counted)


def _with_parameters(facts: ModelFacts, parameters: int) -> ModelFacts:
    values = {name: getattr(facts, name) for name in ModelFacts.__dataclass_fields__}
    return ModelFacts(**values | {"parameters": parameters})


def _count(facts: ModelFacts, shapes: Shapes) -> int:
    """Parameters in the files, without buffers and without a shared head that is stored twice."""
    total = 0
    for tensor, (shape, dtype) in shapes.items():
        is_shared = facts.tied_embeddings and tensor.endswith("lm_head.weight")
        is_buffer = len(shape) > 2 and tensor.endswith((".attn.bias", ".attn.masked_bias"))
        if not (is_shared or is_buffer) and dtype.startswith(("F", "BF")):
            total += math.prod(shape)
    return total


def _by_formula(facts: ModelFacts) -> int:
    embeddings = facts.head_parameters * (1 if facts.tied_embeddings else 2)
    if facts.family in ("opt", "gpt2"):
        embeddings += (facts.positions or 0) * facts.hidden
    norms_and_biases = 13 * facts.hidden if not facts.is_gated else 2 * facts.hidden
    return embeddings + facts.layers * (facts.layer_parameters + norms_and_biases)


class _Reader:
    """Numbers of a configuration, under whichever name a family has for them."""

    def __init__(self, name: str, config: Mapping[str, Any]):
        self._name = name
        self._config = config

    def size(self, *names: str, default: int | None = None) -> int:
        value = self.optional(*names)
        if value is None:
            value = default
        if value is None:
            raise _unreadable(self._name, f"its config.json has no {names[0]}")
        return value

    def optional(self, *names: str) -> int | None:
        for name in names:
            value = self._config.get(name)
            if value is None:
                continue
            if value == 0 or not _is_size(value):
                raise _unreadable(self._name, f"{name} in its config.json is not a size")
            return value
        return None

    def share(self, *names: str) -> float:
        """A share of what is dropped; a library's default stands where a file says nothing."""
        for name in names:
            value = self._config.get(name)
            if isinstance(value, int | float):
                if not 0 <= value <= 1:
                    raise _unreadable(self._name, f"{name} in its config.json is not a share")
                return float(value)
        return 0.1 if self._config.get("model_type") == "gpt2" else 0.0


def _unreadable(name: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"The model {name} cannot be read: {why}.", param="model")
