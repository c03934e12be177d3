"""The checked-in descriptions of the libraries' arguments: `core/schema/<kind>.json`."""

import json
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from core.arguments.rules import Kind

FOLDER = Path(__file__).parent.parent / "schema"

Field = Mapping[str, Any]
"""One argument: JSON Schema keywords, and `class`, `reason`, `auto`, `expects`."""


def describe(kind: Kind) -> dict[str, Any]:
    """Everything known about the arguments of `kind`, to be served as JSON."""
    return deepcopy(_load(kind))


def fields(kind: Kind) -> Mapping[str, Field]:
    """Every argument of the library class by its name. Not to be changed."""
    by_name: Mapping[str, Field] = _load(kind)["fields"]
    return by_name


@cache
def user_names(kind: Kind) -> tuple[str, ...]:
    """The arguments that a request may set."""
    return tuple(name for name, field in fields(kind).items() if is_settable(field))


def is_settable(field: Field) -> bool:
    """Whether a request may set this argument."""
    return field["class"] in ("user", "mapped")


@cache
def defaults(kind: Kind) -> Mapping[str, Any]:
    """What the library uses for each settable argument that is not given."""
    return {name: fields(kind)[name]["default"] for name in user_names(kind)}


@cache
def _load(kind: Kind) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
    return content
