"""Derive `core/schema/*.json` from the installed libraries and our policy.

    python -m worker.schema           write the files
    python -m worker.schema --check   exit 1 and say what moved since they were written

The API server checks requests against these files, and so needs none of the libraries.
"""

import argparse
import dataclasses
import enum
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from peft import LoraConfig
from transformers import BitsAndBytesConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from trl import SFTConfig

from core.arguments.policy import POLICIES
from core.arguments.rules import KINDS, Kind, Rule
from core.arguments.schema import FOLDER

Description = dict[str, Any]

ARCHITECTURES = FOLDER / "architectures.json"

LIBRARIES: Mapping[Kind, tuple[str, ...]] = {
    "training": ("transformers", "trl"),
    "peft": ("peft",),
    "quantization": ("transformers",),
}

_JSON_TYPES: Mapping[object, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}


def main(arguments: list[str] | None = None) -> int:
    """Write or check the files; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker.schema", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, say what moved")
    options = parser.parse_args(arguments)
    moved = [line for kind in KINDS for line in gaps(kind)]
    if not moved and options.check:
        moved = [line for kind in KINDS for line in differences(kind)]
        if ARCHITECTURES.read_text(encoding="utf-8") != as_text(architectures()):
            moved.append("architectures: not those of the installed transformers")
    if moved:
        print("\n".join(moved), file=sys.stderr)  # noqa: T201 - a command
        return 1
    if not options.check:
        for kind in KINDS:
            (FOLDER / f"{kind}.json").write_text(as_text(derive(kind)), encoding="utf-8")
        ARCHITECTURES.write_text(as_text(architectures()), encoding="utf-8")
    return 0


def architectures() -> Description:
    """What the installed library can load as a language model, by config.json's model_type."""
    return {
        "derived_from": {"transformers": version("transformers")},
        "model_types": sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    }


def derive(kind: Kind) -> Description:
    """The file of `kind` as the installed libraries and the policy have it."""
    policy = POLICIES[kind]
    return {
        "derived_from": {name: version(name) for name in LIBRARIES[kind]},
        "fields": {
            name: _merge(found, policy.rules[name])
            for name, found in sorted(library_fields(kind).items())
        },
        "old_names": dict(policy.old_names),
        "same_as": dict(policy.same_as),
    }


def gaps(kind: Kind) -> list[str]:
    """Arguments that the library and the policy do not have in common; empty when all is well."""
    found, rules = library_fields(kind), POLICIES[kind].rules
    lines = [
        f"{kind}.{name}: new in the library, has no rule" for name in found if name not in rules
    ]
    lines += [f"{kind}.{name}: not in the library any more" for name in rules if name not in found]
    for name in found.keys() & rules.keys():
        lines += [
            f"{kind}.{name}: the library does not know {json.dumps(choice)}"
            for choice in _unknown_choices(found[name], rules[name])
        ]
    return sorted(lines)


def differences(kind: Kind) -> list[str]:
    """What the checked-in file says otherwise than the installed libraries; needs no gaps."""
    path = FOLDER / f"{kind}.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    before, now = _flatten(old), _flatten(derive(kind))
    return [
        f"{kind}: {key}: {before.get(key, 'absent')} -> {now.get(key, 'absent')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def as_text(description: Description) -> str:
    """The content of a file: sorted, so that a change of a library is a small diff."""
    return json.dumps(description, indent=2, sort_keys=True, allow_nan=False) + "\n"


def library_fields(kind: Kind) -> dict[str, Description]:
    """What the installed library says about each of its arguments."""
    return _LIBRARY_FIELDS[kind]()


def _of_dataclass(library_class: Any) -> dict[str, Description]:
    hints = typing.get_type_hints(library_class)
    result: dict[str, Description] = {}
    for field in dataclasses.fields(library_class):
        if not field.init:
            continue
        choices = _choices(hints[field.name]) or list(field.metadata.get("choices", ()))
        result[field.name] = _known(
            type=sorted(_types(hints[field.name])),
            default=_default(field),
            enum=choices,
            description=_first_sentence(field.metadata.get("help") or ""),
        )
    return result


def _of_bitsandbytes() -> dict[str, Description]:
    # Its constructor is written by hand, without annotations: only defaults are known.
    parameters = list(inspect.signature(BitsAndBytesConfig.__init__).parameters.values())[1:]
    return {
        parameter.name: _known(
            type=[_JSON_TYPES[type(parameter.default)]],
            default=parameter.default,
            description=_documented(parameter.name, BitsAndBytesConfig.__doc__ or ""),
        )
        for parameter in parameters
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def _merge(found: Description, rule: Rule) -> Description:
    merged = {**found, **rule.keywords, "class": rule.argument_class}
    if rule.reason:
        merged["reason"] = rule.reason
    names = [merged["type"]] if isinstance(merged["type"], str) else sorted(merged["type"])
    if "enum" in merged and "null" in names:
        merged["enum"] = [*merged["enum"], None]
    merged["type"] = names[0] if len(names) == 1 else names
    return merged


def _unknown_choices(found: Description, rule: Rule) -> list[str]:
    if "enum" not in found:
        return []
    # A choice like "pissa_niter_[number of iters]" stands for all that begin so.
    beginnings = tuple(known.partition("[")[0] for known in found["enum"] if "[" in known)
    ours: Any = rule.keywords.get("enum", ())
    return [
        choice
        for choice in ours
        if isinstance(choice, str)
        and choice not in found["enum"]
        and not choice.startswith(beginnings)
    ]


def _known(**facts: Any) -> Description:
    return {key: value for key, value in facts.items() if key == "default" or value not in ([], "")}


def _types(hint: Any) -> set[str]:
    """The JSON types of an annotation; a class of the library's own is an object."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return {name for part in typing.get_args(hint) for name in _types(part)}
    if origin is typing.Literal:
        return {_JSON_TYPES[type(choice)] for choice in typing.get_args(hint)}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"string"}
    return {_JSON_TYPES.get(origin or hint, "object")}


def _choices(hint: Any) -> list[str]:
    """Every text that the enumerations and literals in an annotation allow."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [member.value for member in hint]
    if typing.get_origin(hint) is typing.Literal:
        return [choice for choice in typing.get_args(hint) if isinstance(choice, str)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [choice for part in typing.get_args(hint) for choice in _choices(part)]
    return []


def _default(field: Any) -> Any:
    value: Any = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if isinstance(value, enum.Enum):
        value = value.value
    is_instance = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return dataclasses.asdict(value) if is_instance else value


def _documented(name: str, docstring: str) -> str:
    found = re.search(rf"^ *{name} \(.*\):\n((?: {{12}}.*\n)+)", docstring, re.MULTILINE)
    return _first_sentence(found.group(1)) if found else ""


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[^.][.!])\s", " ".join(text.split()), maxsplit=1)[0].replace("%%", "%")


def _flatten(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        parts = [_flatten(item, f"{path}.{key}" if path else key) for key, item in value.items()]
        return {key: text for part in parts for key, text in part.items()}
    return {path: json.dumps(value)}


_LIBRARY_FIELDS: Mapping[Kind, Callable[[], dict[str, Description]]] = {
    "training": lambda: _of_dataclass(SFTConfig),
    "peft": lambda: _of_dataclass(LoraConfig),
    "quantization": _of_bitsandbytes,
}


if __name__ == "__main__":
    sys.exit(main())
