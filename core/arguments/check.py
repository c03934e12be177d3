"""The user's dictionaries of arguments: every name known and allowed, every value usable."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from core.arguments.conflicts import (
    refuse_peft_conflicts,
    refuse_quantization_conflicts,
    refuse_training_conflicts,
)
from core.arguments.policy import POLICIES
from core.arguments.rules import KINDS, JsonValue, Kind
from core.arguments.schema import Field, defaults, fields, is_settable, user_names
from core.arguments.values import check_value, shown
from core.errors import ForbiddenArgument, InvalidArgument, UnknownArgument

_LONGEST_NAME = 64


@dataclass(frozen=True)
class CheckedArguments:
    """What the library can be given, under the names that it wants."""

    values: dict[str, JsonValue]
    """Only what the user gave; "auto" is still there."""
    warnings: tuple[str, ...] = ()
    """Old names and settings without effect, as sentences for the user."""


def check_training(values: Mapping[str, object]) -> CheckedArguments:
    """Check SFTConfig arguments. Raises UnknownArgument, ForbiddenArgument or InvalidArgument."""
    checked = _check("training", values)
    refuse_training_conflicts({**defaults("training"), **checked.values})
    return checked


def check_peft(values: Mapping[str, object]) -> CheckedArguments:
    """Check LoraConfig arguments. Raises UnknownArgument, ForbiddenArgument or InvalidArgument."""
    checked = _check("peft", values)
    refuse_peft_conflicts({**defaults("peft"), **checked.values})
    return checked


def check_quantization(values: Mapping[str, object]) -> CheckedArguments:
    """Check BitsAndBytesConfig arguments. Raises as check_training does."""
    checked = _check("quantization", values)
    refuse_quantization_conflicts({**defaults("quantization"), **checked.values})
    return CheckedArguments(checked.values, _useless_for_quantization(checked.values))


def _check(kind: Kind, given: Mapping[str, object]) -> CheckedArguments:
    values: dict[str, JsonValue] = {}
    warnings: list[str] = []
    policy = POLICIES[kind]
    for written, value in given.items():
        name = policy.old_names.get(written, written)
        if _is_set_anyway(kind, name, value):
            warnings.append(f'"{written}" is {shown(value)} here anyway; leave it out.')
            continue
        field = _field(kind, written, name)
        checked = _check_named(f"{kind}.{written}", value, field)
        if name != written:
            warnings.append(f'"{written}" is called "{name}" today.')
        name = policy.same_as.get(name, name)
        if values.get(name, checked) != checked:
            raise InvalidArgument(
                f'"{written}" contradicts "{name}": they are the same setting.',
                param=f"{kind}.{written}",
            )
        values[name] = checked
    return CheckedArguments(values, tuple(warnings))


def _is_set_anyway(kind: Kind, name: str, value: object) -> bool:
    """Whether this only says what is so without being said, as exported settings often do."""
    field = fields(kind).get(name)
    if field is None or is_settable(field):
        return False
    ours = POLICIES[kind].set_anyway.get(name, field["default"])
    return type(value) is type(ours) and value == ours


def _field(kind: Kind, written: str, name: str) -> Field:
    field = fields(kind).get(name)
    if field is None:
        raise _unknown(kind, written)
    if not is_settable(field):
        today = "" if name == written else f', called "{name}" today,'
        raise ForbiddenArgument(
            f'"{written}"{today} cannot be set here: {field["reason"]}.', param=f"{kind}.{written}"
        )
    return field


def _check_named(path: str, value: object, field: Field) -> JsonValue:
    match path:
        # Two old arguments said the same in other values.
        case "training.group_by_length":
            grouped = check_value(path, value, {"type": "boolean"})
            return "group_by_length" if grouped else "random"
        case "training.warmup_ratio":
            return check_value(path, value, {"type": "number", "minimum": 0, "exclusiveMaximum": 1})
    return check_value(path, value, field)


def _useless_for_quantization(values: Mapping[str, JsonValue]) -> tuple[str, ...]:
    wrong, right = "bnb_4bit_", "load_in_4bit"
    if values.get("load_in_4bit"):
        wrong, right = "llm_int8_threshold", "load_in_8bit"
    return tuple(
        f'"{name}" has no effect without "{right}".' for name in values if name.startswith(wrong)
    )


def _unknown(kind: Kind, name: str) -> UnknownArgument:
    safe_name = name[:_LONGEST_NAME].encode("utf-8", "backslashreplace").decode()
    message = f"unknown setting {shown(name).removeprefix('the text ')}."
    return UnknownArgument(f"{message} {_advice(kind, name)}", param=f"{kind}.{safe_name}")


def _advice(kind: Kind, name: str) -> str:
    advice = POLICIES[kind].elsewhere.get(name)
    if advice:
        return advice
    for other in KINDS:
        if name in user_names(other):
            return f'It belongs in "{other}", beside "{kind}".'
    nearest = get_close_matches(name[:_LONGEST_NAME].lower(), user_names(kind), n=1)
    if nearest:
        return f'Did you mean "{nearest[0]}"?'
    return f'"{kind}" has no setting of that name.'
