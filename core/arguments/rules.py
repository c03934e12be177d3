"""What one argument of a library may be set to, and by whom: the vocabulary of the policies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

JsonValue = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None

Kind = Literal["training", "peft", "quantization"]
KINDS: tuple[Kind, ...] = get_args(Kind)

ArgumentClass = Literal["user", "mapped", "operator", "denied"]
"""user: reaches the library as it is. mapped: accepted, and the service gives it its effect.
operator: the service sets it. denied: nobody sets it."""


@dataclass(frozen=True)
class Rule:
    """Our judgement of one argument; everything else about it comes from the library."""

    argument_class: ArgumentClass
    keywords: Mapping[str, JsonValue] = field(default_factory=dict)
    """JSON Schema keywords that narrow what the library says, and two of our own: `auto`, whether
    the text "auto" is accepted, and `expects`, the legal values in words. A `format` is "steps"
    (whole, or a share of all steps below 1), "step-limit" (not 0) or "float" (never an int)."""
    reason: str = ""
    """Why it cannot be set in a request, as a clause."""


@dataclass(frozen=True)
class Policy:
    """The rules of all arguments of one library class."""

    rules: Mapping[str, Rule]
    same_as: Mapping[str, str] = field(default_factory=dict)
    """Two names of today for one thing: the name that the library prefers is on the right."""
    old_names: Mapping[str, str] = field(default_factory=dict)
    """Names of earlier releases, and what they are called today."""
    set_anyway: Mapping[str, JsonValue] = field(default_factory=dict)
    """What the service gives to arguments that nobody sets, where that is not the default; null
    where it depends."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Names that are no argument of this class, and what to do instead, as a sentence."""


def user(**keywords: JsonValue) -> Rule:
    """The user's, handed to the library as it is."""
    return Rule("user", keywords)


def mapped(**keywords: JsonValue) -> Rule:
    """The user's, carried out by the service."""
    return Rule("mapped", keywords)


def operator(reason: str, names: str) -> dict[str, Rule]:
    """Set by the service, all for one reason; `names` are separated by blanks."""
    return {name: Rule("operator", reason=reason) for name in names.split()}


def denied(reason: str, names: str) -> dict[str, Rule]:
    """Set by nobody, all for one reason; `names` are separated by blanks."""
    return {name: Rule("denied", reason=reason) for name in names.split()}


def joined(*tables: Mapping[str, Rule]) -> dict[str, Rule]:
    """One table of all; a name in two of them is a mistake of ours."""
    result: dict[str, Rule] = {}
    for table in tables:
        twice = result.keys() & table.keys()
        assert not twice, f"two rules for {sorted(twice)}"
        result.update(table)
    return result
