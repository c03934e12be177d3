"""Templates over a row: Jinja in a sandbox that has no way out, few words, and a budget."""

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.exceptions import SecurityError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.errors import InvalidTemplate

MAX_SOURCE_CHARACTERS = 65_536
MAX_OUTPUT_CHARACTERS = 1_000_000
MAX_RANGE = 1000
MAX_STEPS = 100_000
"""Loop iterations over ranges in one rendering, all nested loops together."""
MAX_NUMBER = 10**15

FILTERS = (
    "default", "first", "items", "join", "last", "length", "list", "lower", "replace", "tojson",
    "trim", "upper",
)  # fmt: skip
TESTS = ("defined", "undefined", "none", "string", "mapping", "sequence", "number", "in", "equalto")
OPERATORS = frozenset({"+", "*", "**", "%", "-", "/", "//"})


class RowTemplate:
    """A template that was compiled; `render` may be called for any number of rows."""

    def __init__(self, source: str):
        self._environment = _Environment()
        self._template = self._environment.from_string(source)

    def render(self, row: Mapping[str, Any]) -> str:
        """The text of one row; InvalidTemplate names the line and what is wrong."""
        self._environment.steps_left = MAX_STEPS
        try:
            text = _bounded(self._template.generate(dict(row)))
        except UndefinedError as error:
            columns = ", ".join(str(name) for name in list(row)[:20])
            raise _invalid(f"{error.message}; the row has: {columns}") from error
        except SecurityError as error:
            raise _invalid(f"not allowed: {error}") from error
        except (TemplateError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise _invalid(str(error) or type(error).__name__) from error
        return text


def compile_template(source: str) -> RowTemplate:
    """Compile a template; InvalidTemplate names the line of a mistake."""
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise _invalid(f"longer than {MAX_SOURCE_CHARACTERS} characters")
    try:
        return RowTemplate(source)
    except TemplateSyntaxError as error:
        raise _invalid(f"line {error.lineno}: {error.message}") from error
    except (TemplateError, RecursionError, MemoryError, SyntaxError) as error:
        raise _invalid(str(error) or "too deeply nested") from error


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = OPERATORS  # also keeps the compiler from computing constants
    steps_left = MAX_STEPS

    def __init__(self) -> None:
        super().__init__(autoescape=False, undefined=StrictUndefined, keep_trailing_newline=True)
        self.globals = {"range": self._range}
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.filters["replace"] = _replace
        self.filters["join"] = _joined(self.filters["join"])
        self.tests = {name: self.tests[name] for name in TESTS}

    def _range(self, *limits: int) -> range:
        numbers = range(*limits)
        if len(numbers) > MAX_RANGE:
            raise SecurityError(f"a range longer than {MAX_RANGE}")
        self.steps_left -= len(numbers)
        if self.steps_left < 0:
            raise SecurityError(f"more than {MAX_STEPS} loop steps for one row")
        return numbers

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """No attribute of anything but what rows are made of, and no method that builds bombs."""
        return attr in _METHODS.get(type(obj), ()) and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Operators on small operands only."""
        _check_operands(operator, left, right)
        return super().call_binop(context, operator, left, right)


_METHODS: dict[type, frozenset[str]] = {
    str: frozenset(
        {"strip", "lstrip", "rstrip", "upper", "lower", "title", "capitalize", "startswith",
         "endswith", "split", "splitlines", "isdigit"}
    ),
    dict: frozenset({"get", "items", "keys", "values"}),
}  # fmt: skip


def _check_operands(operator: str, left: Any, right: Any) -> None:
    if operator == "+" and isinstance(left, str | list) and isinstance(right, str | list):
        if len(left) + len(right) > MAX_OUTPUT_CHARACTERS:
            raise SecurityError("a text that is too long")
        return
    for value in (left, right):
        if not isinstance(value, int | float) or abs(value) > MAX_NUMBER:
            raise SecurityError(f"{operator} on anything but small numbers")
    if operator == "**" and (abs(left) > 1000 or abs(right) > 10):
        raise SecurityError("a power that is too large")


def _replace(text: Any, old: Any, new: Any) -> str:
    text, old, new = str(text), str(old), str(new)
    if len(text) + text.count(old) * (len(new) - len(old)) > MAX_OUTPUT_CHARACTERS:
        raise SecurityError("a text that is too long")
    replaced: str = text.replace(old, new)
    return replaced


def _joined(join: Callable[..., Any]) -> Callable[..., Any]:
    """Jinja's join has a context as first argument; attribute= would reach into objects."""

    def bounded(context: Any, values: Any, separator: str = "") -> Any:
        return join(context, values, separator)

    bounded.__dict__.update(join.__dict__)
    return bounded


def _bounded(pieces: Any) -> str:
    found: list[str] = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > MAX_OUTPUT_CHARACTERS:
            raise _invalid(f"the text of one row is longer than {MAX_OUTPUT_CHARACTERS} characters")
        found.append(piece)
    return "".join(found)


def _invalid(reason: str) -> InvalidTemplate:
    return InvalidTemplate(f"template: {reason}", param="template")
