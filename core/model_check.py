"""Refuses a model that could do harm or cannot be loaded, by its small files: no torch, no network.

A model is a stranger's folder. What is wrong with it is said where it is asked for, or by the
worker before a training child starts; the child looks once more at what it is about to load.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from core.arguments.schema import FOLDER, fields
from core.errors import InvalidArgument, InvalidModel
from core.model_facts import INDEX, ModelFacts, Shapes, facts_of_folder, weight_shapes

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
MAX_JSON_BYTES = 64 * 1024**2
MAX_DEPTH = 64

LANGUAGE_MODEL = re.compile(
    r"\w*(ForCausalLM|LMHeadModel|LMHead|ForConditionalGeneration|ForPreTraining|Model|Decoder)"
)
"""Names of classes that are or hold a language model."""
CHOOSES_CODE = re.compile(r".*(attn|experts)_implementation(_internal|_autoset)?")
PLAIN_NAME = re.compile(r"\w+")
DTYPES = frozenset({"float32", "float16", "bfloat16", "float64", "auto"})
QUANTIZERS = frozenset({"bitsandbytes", "mxfp4"})
"""Those on whose weights an adapter can be trained with what is installed here."""
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".h5", ".msgpack", ".onnx")

LIMITS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), (1, 1024)),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), (0, 1024)),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), (1, 2**20)),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner"), (0, 2**20)),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), (1, 2**13)),
    "num_key_value_heads": (0, 2**13),
    "head_dim": (1, 2**14),
    "vocab_size": (1, 2**24),
}
"""Far more than any model has; the library would build for hours, or until memory is out."""
OF_THE_FILES = 2.0
"""Where config.json promises so many times what the weights hold, or so many times less, they
do not belong together. The count by configuration leaves out some biases and projections."""
LAYER = re.compile(r"(?:model\.|transformer\.|decoder\.)*(?:layers|h)\.(\d{1,6})\.")


def check_model(name: str, folder: Path) -> None:
    """Raise InvalidModel with the file and the fix, if something of this folder is wrong.

    What is not there at all is left to `check_complete`.
    """
    check_small_files(name, folder)
    _check_index(name, folder)
    files = os.listdir(folder)
    others = sorted(file for file in files if file.endswith(OTHER_WEIGHTS))
    if others and not any(file.endswith(".safetensors") for file in files):
        raise InvalidModel(
            f"The weights of {name} are in {others[0]}, which is not read: only safetensors are. "
            "Convert them, or name a model that has them.",
            param="model",
        )
    _check_against_weights(name, folder)


def check_small_files(name: str, folder: Path) -> None:
    """The part of `check_model` that needs no weights and no index of them."""
    if (folder / ADAPTER).exists():
        raise InvalidModel(
            f"{name} is a LoRA adapter ({ADAPTER}). Train on its base model, or merge the two "
            "and name the merged model.",
            param="model",
        )
    if not (folder / CONFIG).is_file():
        raise InvalidModel(
            f"{name} has no {CONFIG}, so it is no model that can be trained.", param="model"
        )
    check_config(name, _object(name, folder / CONFIG))
    if (folder / TOKENIZER_CONFIG).exists():
        _object(name, folder / TOKENIZER_CONFIG)


def check_complete(name: str, folder: Path) -> None:
    """Raise InvalidModel also if this folder lacks its architecture or its weights."""
    check_model(name, folder)
    if not _object(name, folder / CONFIG).get("model_type"):
        raise _wrong(name, "has no model_type, so nobody knows its architecture")
    if not any(folder.glob("*.safetensors")):
        raise InvalidModel(
            f"{name} has no weights: there is no *.safetensors beside its {CONFIG}.", param="model"
        )


def check_config(name: str, config: Mapping[str, Any]) -> None:
    """Raise InvalidModel if this config.json is of no model that may be trained here."""
    _check_type(name, config)
    _check_architectures(name, config.get("architectures"))
    for part in _parts(name, config):
        _check_sizes(name, part)
        _check_dtype(name, part)
        _check_quantization(name, part.get("quantization_config"))
        for key, value in part.items():
            if CHOOSES_CODE.fullmatch(key):
                _check_plain(name, key, value)


def check_adapter(name: str, folder: Path) -> str:
    """Raise InvalidModel if adapter_config.json does more than a LoRA of ours; its base model."""
    found = _object(name, folder / ADAPTER)
    known = fields("peft")
    for key, value in found.items():
        # What a library adds with its default is not known yet, and does nothing yet.
        field = known.get(key, {"class": "denied", "default": None})
        if field["class"] == "denied" and value and value != field["default"]:
            raise InvalidModel(f"The {ADAPTER} of {name} sets {key!r}.", param="model")
    modules = found.get("target_modules")
    base = found.get("base_model_name_or_path")
    if not isinstance(base, str) or found.get("peft_type") != "LORA":
        raise InvalidModel(f"The {ADAPTER} of {name} is of no LoRA on a model.", param="model")
    if isinstance(modules, str) and not PLAIN_NAME.fullmatch(modules.replace("-", "_")):
        raise InvalidModel(f"The {ADAPTER} of {name} names modules by a pattern.", param="model")
    return base


@cache
def model_types() -> frozenset[str]:
    """The architectures that the training child's library can load as a language model."""
    content = json.loads((FOLDER / "architectures.json").read_text(encoding="utf-8"))
    return frozenset(content["model_types"])


def _check_type(name: str, config: Mapping[str, Any]) -> None:
    kind = config.get("model_type")
    if kind is None or (isinstance(kind, str) and kind in model_types()):
        return
    if config.get("auto_map"):
        raise _wrong(name, "needs code of its own (auto_map), which is never run here")
    raise _wrong(
        name, f"has the model_type {_short(kind)}, which is no language model of transformers"
    )


def _check_architectures(name: str, value: Any) -> None:
    """The library goes by model_type alone; a name that is no model at all is a mistake."""
    if value is None:
        return
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(name, "has architectures that are no list of names")
    for item in value:
        if not LANGUAGE_MODEL.fullmatch(item) or item.startswith("Auto"):
            raise _wrong(name, f"has the architecture {_short(item)}, which is no language model")


def _parts(name: str, config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The configuration and all that it holds, however deep."""
    waiting: list[tuple[Any, int]] = [(config, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _wrong(name, f"is nested more than {MAX_DEPTH} deep")
        if isinstance(value, Mapping):
            yield value
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]


def _check_sizes(name: str, part: Mapping[str, Any]) -> None:
    for key, (least, most) in LIMITS.items():
        value = part.get(key)
        # A few architectures have one size a layer.
        for size in value if isinstance(value, list) else [value]:
            is_size = isinstance(size, int) and not isinstance(size, bool)
            if size is not None and not (is_size and least <= size <= most):
                raise _wrong(
                    name, f"has {key} {_short(size)}; it is a whole number from {least} to {most:,}"
                )


def _check_dtype(name: str, part: Mapping[str, Any]) -> None:
    for key in ("dtype", "torch_dtype"):
        value = part.get(key)
        for dtype in value.values() if isinstance(value, Mapping) else [value]:
            if dtype is not None and (not isinstance(dtype, str) or dtype not in DTYPES):
                raise _wrong(name, f"has the {key} {_short(dtype)}; train on float weights")


def _check_quantization(name: str, value: Any) -> None:
    if value is None:
        return
    method = value.get("quant_method") if isinstance(value, Mapping) else value
    if not isinstance(method, str) or method not in QUANTIZERS:
        raise _wrong(
            name,
            f"is quantized by {_short(method)}. Name the model that is not quantized; "
            "quantization in the job does it when it is loaded",
        )


def _check_plain(name: str, key: str, value: Any) -> None:
    """A configuration may name a repository with native code, to be downloaded and run."""
    values = [value]
    while values:
        found = values.pop()
        if isinstance(found, Mapping):
            values += found.values()
        elif isinstance(found, list):
            values += found
        elif found is not None and not PLAIN_NAME.fullmatch(str(found)):
            raise _wrong(name, f"names code to be run: {key} {_short(found)}")


def _check_index(name: str, folder: Path) -> None:
    """An index may name any file of this machine as weights, and the library would load it."""
    if not (folder / INDEX).exists():
        return
    weights = _object(name, folder / INDEX).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise InvalidModel(f"The {INDEX} of {name} has no weight_map.", param="model")
    for file in weights.values():
        if not isinstance(file, str) or Path(file).name != file:
            raise InvalidModel(
                f"The {INDEX} of {name} names weights outside of its folder: {_short(file)}.",
                param="model",
            )
    for file in sorted(set(weights.values())):
        if not file.endswith(".safetensors") or not (folder / file).is_file():
            raise InvalidModel(
                f"The {INDEX} of {name} names {_short(file)}, which is not there as safetensors.",
                param="model",
            )


def _check_against_weights(name: str, folder: Path) -> None:
    """Compare with what the headers of the weights say, where this architecture was counted.

    The library leaves out the layers that a configuration does not mention, and builds in memory
    what it promises, before it looks at the weights.
    """
    try:
        shapes = weight_shapes(name, folder)
    except InvalidArgument as error:
        raise InvalidModel(error.message, param="model") from error
    try:
        facts = facts_of_folder(name, folder, shapes=shapes)
        promised = facts_of_folder(name, folder, shapes={})
    except InvalidArgument:
        return  # it says too little to be counted; whether it loads, the child finds out
    floats = all(dtype.startswith(("F", "BF")) for _, dtype in shapes.values())
    if not shapes or not floats or facts.family == "generic":
        return
    _check_layers(name, facts, shapes)
    ratio = promised.parameters / max(1, facts.parameters)
    if not 1 / OF_THE_FILES <= ratio <= OF_THE_FILES:
        raise _wrong(
            name,
            f"is of a model of {promised.parameters:,} parameters, but its weights are "
            f"{facts.parameters:,}: they do not belong together",
        )


def _check_layers(name: str, facts: ModelFacts, shapes: Shapes) -> None:
    found = {int(match[1]) for tensor in shapes if (match := LAYER.match(tensor))}
    if found and facts.layers != max(found) + 1:
        raise _wrong(name, f"says {facts.layers} layers, but its weights have {max(found) + 1}")


def _object(name: str, path: Path) -> dict[str, Any]:
    """A JSON file of the folder, which has to be an object."""
    with path.open("rb") as file:
        raw = file.read(MAX_JSON_BYTES + 1)
    if len(raw) > MAX_JSON_BYTES:
        raise InvalidModel(
            f"The {path.name} of {name} is larger than {MAX_JSON_BYTES >> 20} MiB.", param="model"
        )
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidModel(
            f"The {path.name} of {name} is not JSON. Fetch it again.", param="model"
        ) from error
    if not isinstance(value, dict):
        raise InvalidModel(f"The {path.name} of {name} is not an object.", param="model")
    return value


def _short(value: Any) -> str:
    return repr(value)[:100]


def _wrong(name: str, what: str) -> InvalidModel:
    return InvalidModel(f"The {CONFIG} of {name} {what}.", param="model")
