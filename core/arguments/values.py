"""One value against one field: strict types, finite, bounded.

This reads the part of JSON Schema that the files in `core/schema` use.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from core.arguments.rules import JsonValue
from core.arguments.schema import Field
from core.errors import InvalidArgument, UnknownArgument

AUTO = "auto"
_SHOWN_CHARACTERS = 40


def check_value(path: str, value: object, field: Field) -> JsonValue:
    """The value as the library wants it. Raises InvalidArgument for `path`, or for a part of it."""
    if value == AUTO and isinstance(value, str) and field.get("auto"):
        return AUTO
    type_name = _type_of(value)
    if not _is_one_of(type_name, _types(field)):
        raise _refused(path, value, field)
    return _CHECKS[type_name](path, value, field)


def expected(field: Field) -> str:
    """The legal values in words."""
    if "expects" in field:
        words = [str(field["expects"])]
    elif "enum" in field:
        words = [json.dumps(choice) for choice in field["enum"] if choice is not None]
    else:
        words = [_IN_WORDS[name](field) for name in _types(field) if name != "null"]
    if field.get("auto"):
        words.append('"auto"')
    if "null" in _types(field):
        words.append("null")
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def shown(value: object) -> str:
    """A value as an error message can safely quote it: short, in ASCII."""
    match value:
        case str():
            dots = "..." if len(value) > _SHOWN_CHARACTERS else ""
            return f"the text {json.dumps(value[:_SHOWN_CHARACTERS])}{dots}"
        case list():
            return "a list" if value else "an empty list"
        case Mapping():
            return "an object"
        case int() if value.bit_length() > 128:
            return "a number of more than 38 digits"
        case None | bool() | int() | float():
            return json.dumps(value)
    return f"something of type {type(value).__name__}"


def _type_of(value: object) -> str:
    # bool is an int to Python, and must not be one here.
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case Mapping():
            return "object"
    return "something else"


def _types(field: Field) -> list[str]:
    types: str | list[str] = field["type"]
    return [types] if isinstance(types, str) else types


def _is_one_of(type_name: str, types: list[str]) -> bool:
    return type_name in types or (type_name == "integer" and "number" in types)


def _refused(path: str, value: object, field: Field) -> InvalidArgument:
    name = path.partition(".")[2]
    return InvalidArgument(f'"{name}" must be {expected(field)}, not {shown(value)}.', param=path)


def _check_choice(path: str, value: Any, field: Field) -> JsonValue:
    if value not in field.get("enum", (value,)):
        raise _refused(path, value, field)
    result: JsonValue = value
    return result


def _check_number(path: str, value: Any, field: Field) -> JsonValue:
    number: int | float = value
    in_bounds = (
        (not isinstance(number, float) or math.isfinite(number))
        and number >= field.get("minimum", number)
        and number <= field.get("maximum", number)
        and ("exclusiveMinimum" not in field or number > field["exclusiveMinimum"])
        and ("exclusiveMaximum" not in field or number < field["exclusiveMaximum"])
    )
    if not in_bounds or not _has_format(number, field):
        raise _refused(path, number, field)
    if field.get("format") == "steps" and number >= 1:
        return int(number)
    return float(number) if field.get("format") == "float" else number


def _check_text(path: str, value: Any, field: Field) -> JsonValue:
    text: str = value
    too_long = len(text) > field.get("maxLength", len(text))
    if too_long or ("pattern" in field and not re.fullmatch(field["pattern"], text)):
        raise _refused(path, text, field)
    return _check_choice(path, text, field)


def _check_list(path: str, value: Any, field: Field) -> JsonValue:
    if not field["minItems"] <= len(value) <= field["maxItems"]:
        raise _refused(path, value, field)
    return [check_value(f"{path}[{i}]", item, field["items"]) for i, item in enumerate(value)]


def _check_object(path: str, value: Any, field: Field) -> JsonValue:
    properties: Mapping[str, Field] = field["properties"]
    for key in value:
        if key not in properties:
            known = ", ".join(properties)
            raise UnknownArgument(
                f"unknown setting {shown(key).removeprefix('the text ')} in"
                f' "{path.partition(".")[2]}". It has: {known}.',
                param=path,
            )
    return {key: check_value(f"{path}.{key}", item, properties[key]) for key, item in value.items()}


def _has_format(number: float, field: Field) -> bool:
    match field.get("format"):
        case "steps":
            return number < 1 or number == int(number)
        case "step-limit":
            return number != 0
    return True


def _bounds_in_words(field: Field) -> str:
    match field:
        case {"minimum": low, "maximum": high}:
            return f" from {low} to {high}"
        case {"exclusiveMinimum": low, "maximum": high}:
            return f" above {low} and at most {high}"
        case {"minimum": low, "exclusiveMaximum": high}:
            return f" of at least {low} and below {high}"
    raise AssertionError(f"unbounded: {field}")


def _number_in_words(field: Field) -> str:
    if field.get("format") != "steps":
        return f"a number{_bounds_in_words(field)}"
    lowest, highest = field.get("minimum", 1), field["maximum"]
    return f"a whole number of steps from {lowest} to {highest}, or a share of all steps below 1"


def _integer_in_words(field: Field) -> str:
    if field.get("format") == "step-limit":
        return f"a whole number from 1 to {field['maximum']}, or -1 for no limit"
    return f"a whole number{_bounds_in_words(field)}"


_CHECKS: Mapping[str, Callable[[str, Any, Field], JsonValue]] = {
    "null": lambda _path, _value, _field: None,
    "boolean": _check_choice,
    "integer": _check_number,
    "number": _check_number,
    "string": _check_text,
    "array": _check_list,
    "object": _check_object,
}

_IN_WORDS: Mapping[str, Callable[[Field], str]] = {
    "boolean": lambda _field: "true or false",
    "integer": _integer_in_words,
    "number": _number_in_words,
    "string": lambda field: f"a printable text of 1 to {field['maxLength']} characters",
    "array": lambda _field: "a list",
    "object": lambda field: f"an object with numbers for {', '.join(field['properties'])}",
}
