"""Templates over a row: Jinja in a sandbox with no way out, few words, and a budget.

Jinja's own sandbox guards attributes. It does not guard time or memory: a few lines can ask for
2**40 characters. So the parsed template is checked against the nodes listed here, and whatever
can be repeated or grow is led through a filter that pays for it out of the budget of the row.
"""

import json
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from traceback import walk_tb
from typing import Any, NoReturn, cast

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import SecurityError, UndefinedError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer

from core.errors import InvalidTemplate

MAX_SOURCE_BYTES = 64 * 1024
MAX_OUTPUT_CHARACTERS = 1_000_000
MAX_RANGE = 1_000
MAX_NUMBER_BITS = 1_024
VIEWS = (KeysView, ValuesView, ItemsView)
SIZED = (str, list, tuple, dict)
BUDGET = 50_000_000
"""What one rendering may cost. One character costs 1."""
STEP = 500
"""What a round of a loop, an operator or a filter costs beside its characters."""
MAX_SHOWN_CHARACTERS = 300
NO_COLUMN = "there is no column"

FAILURES = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError)
"""What a template can raise. MemoryError is none: the budget keeps it from happening."""

NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.List,
    nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.CondExpr, nodes.Filter, nodes.Test,
    nodes.Call, nodes.Getitem, nodes.Getattr, nodes.Slice, nodes.Concat, nodes.Compare,
    nodes.Operand, nodes.BinExpr, nodes.UnaryExpr, nodes.For, nodes.If, nodes.Assign, nodes.With,
)  # fmt: skip
TESTS = (
    "boolean", "defined", "even", "false", "float", "integer", "mapping", "none", "number", "odd",
    "sequence", "string", "true", "undefined",
)  # fmt: skip
METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset({
        "capitalize", "endswith", "isdigit", "lower", "lstrip", "removeprefix", "removesuffix",
        "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper",
    }),
    dict: frozenset({"get", "items", "keys", "values"}),
    LoopContext: frozenset({
        "first", "index", "index0", "last", "length", "nextitem", "previtem", "revindex",
        "revindex0",
    }),
}  # fmt: skip
"""Attributes that are not data. Nothing else of any object can be reached."""

# No template can name these: they are put around nodes after parsing.
COUNTED, PAID, JOINED = "#counted", "#paid", "#joined"


class RowTemplate:
    """A compiled template for any number of rows, from one thread at a time."""

    def __init__(self, source: str):
        self._environment = _Environment()
        tree = self._environment.parse(source)
        _check(tree, self._environment.filters)
        _Meter().visit(tree)
        code = self._environment.compile(tree)
        self._template = self._environment.template_class.from_code(
            self._environment, code, self._environment.globals
        )

    def render(self, row: Mapping[str, Any]) -> str:
        """The text of one row. InvalidTemplate names the line and what is wrong.

        Columns are variables; `row` is all of them, for names that are no identifiers.
        """
        self._environment.budget = BUDGET
        try:
            return _bounded(self._template.generate({"row": dict(row), **row}))
        except UndefinedError as error:
            names = ", ".join(json.dumps(name, ensure_ascii=False) for name in row)
            columns = f"; the columns of the row are {names}" if NO_COLUMN in str(error) else ""
            raise _invalid(_short(f"{error}{columns}"), _line_of(error)) from error
        except FAILURES as error:
            raise _invalid(_short(str(error)), _line_of(error)) from error


def compile_template(source: str) -> RowTemplate:
    """Compile a template; InvalidTemplate names the line of a mistake."""
    try:
        size = len(source.encode())
    except UnicodeEncodeError as error:
        raise _invalid("half of a surrogate pair, which is no character") from error
    if size > MAX_SOURCE_BYTES:
        raise _invalid(f"it is longer than {MAX_SOURCE_BYTES // 1024} KiB")
    try:
        return RowTemplate(source)
    except TemplateSyntaxError as error:
        raise _invalid(_short(error.message or "a mistake"), error.lineno) from error
    except (RecursionError, MemoryError, SyntaxError) as error:
        # Python's own parser says MemoryError when parentheses are nested too deep for it.
        raise _invalid("it is nested too deep") from error
    except FAILURES as error:
        raise _invalid(_short(str(error))) from error


class _Missing(StrictUndefined):
    """A name that is not there, said in the words of a row."""

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return str(self._undefined_hint)
        name = _short(json.dumps(self._undefined_name, ensure_ascii=False, default=str))
        if self._undefined_obj is missing:
            return f"{NO_COLUMN} {name}"
        return f"{_kind(self._undefined_obj)} has no {name}"


class _Environment(ImmutableSandboxedEnvironment):
    # An intercepted operator is also one that the compiler does not compute beforehand.
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            autoescape=False,
            optimized=False,
            undefined=_Missing,
            keep_trailing_newline=True,
            finalize=self.text,
        )
        self.budget = BUDGET
        self.globals = {"range": self._range}
        self.tests = {name: self.tests[name] for name in TESTS}
        self.filters = {
            **_filters(self),
            COUNTED: self._counted,
            PAID: self.paid,
            JOINED: self.join,
        }

    def spend(self, cost: int) -> None:
        """Pay for work before it is done; SecurityError when the row has used up its budget."""
        self.budget -= cost
        if self.budget < 0:
            raise SecurityError("it is too much work for one row")

    def paid(self, value: Any) -> Any:
        """The value, after paying for all that is in it, however often it is in it."""
        self.spend(STEP)
        waiting = [value]
        while waiting:
            item = waiting.pop()
            self.spend(len(item) if isinstance(item, str) else 50)
            if isinstance(item, list | tuple):
                waiting.extend(item)
            elif isinstance(item, dict):
                waiting.extend(item.keys())
                waiting.extend(item.values())
        return value

    def text(self, value: Any) -> str:
        """A value as it stands in the output."""
        if isinstance(value, str):
            self.spend(STEP + len(value))
            return value
        if not isinstance(value, bool | int | float | list | tuple | dict | None | Undefined):
            raise SecurityError(f"{_kind(value)} is no text; is it missing its parentheses?")
        self.paid(value)
        return str(value)

    def join(self, items: Any, separator: str = "") -> str:
        """Texts after each other, paid for before they are."""
        texts = [self.text(item) for item in items]
        self.spend(len(self.text(separator)) * len(texts))
        return separator.join(texts)

    def _counted(self, items: Any) -> Iterator[Any]:
        for item in items:
            self.spend(STEP)
            yield item

    def _range(self, *limits: int) -> list[int]:
        numbers = range(*limits)
        if len(numbers) > MAX_RANGE:
            raise SecurityError(f"a range is longer than {MAX_RANGE:,}")
        self.spend(len(numbers) * STEP)
        return list(numbers)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Data first, so that a field named `items` is the field; then a listed method."""
        if isinstance(_present(obj), dict) and attribute in obj:
            return obj[attribute]
        if attribute in METHODS.get(type(obj), ()):
            return getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item of a list or a text, or a field. Never an attribute."""
        if isinstance(_present(obj), SIZED):
            try:
                return obj[argument]
            except LookupError:
                return self.undefined(obj=obj, name=argument)
        return self.undefined(obj=obj, name=argument)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call range, or a method that `getattr` gave."""
        if obj != self._range:
            owner = getattr(obj, "__self__", None)
            if getattr(obj, "__name__", None) not in METHODS.get(type(owner), ()):
                raise SecurityError(f"{_kind(obj)} cannot be called")
            # A text that is split becomes many objects, each larger than its characters.
            self.spend(STEP + (8 * len(owner) if isinstance(owner, str) else 0))
        result = super().call(context, obj, *args, **kwargs)
        return list(result) if isinstance(result, VIEWS) else result

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Operators, on what they cannot blow up."""
        if isinstance(left, SIZED) or isinstance(right, SIZED):
            if operator not in ("+", "*"):
                raise SecurityError(f"{operator} is for numbers only")
            self.spend(STEP + _size_of_result(operator, left, right))
            return super().call_binop(context, operator, left, right)
        self.spend(STEP)
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() * abs(right))
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int):
            _check_bits(result.bit_length())
        return result


def _filters(environment: _Environment) -> dict[str, Callable[..., Any]]:
    """The filters that templates may use, by name."""

    def join(items: Any, separator: str = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            items = [environment.getitem(item, attribute) for item in items]
        return environment.join(items, separator)

    def replace(text: Any, old: str, new: str) -> str:
        text = environment.text(text)
        environment.spend(len(text))
        environment.spend(text.count(old) * len(new))
        return str(text.replace(old, new))

    def tojson(value: Any) -> str:
        # Jinja's own escapes < and > for HTML: wrong in a text to learn from.
        return json.dumps(environment.paid(_present(value)), ensure_ascii=False)

    def listed(value: Any) -> list[Any]:
        environment.spend(8 * len(_present(value)))
        return list(value)

    def items(value: Any) -> list[Any]:
        if not isinstance(value, dict):
            raise TypeError(f"{_kind(value)} has no items")
        return listed(value.items())

    def first(value: Sequence[Any]) -> Any:
        return environment.getitem(_present(value), 0)

    def last(value: Sequence[Any]) -> Any:
        return environment.getitem(_present(value), -1)

    return {
        "default": _default,
        "first": first,
        "items": items,
        "join": join,
        "last": last,
        "length": lambda value: len(_present(value)),
        "list": listed,
        "lower": lambda value: environment.text(value).lower(),
        "replace": replace,
        "tojson": tojson,
        "trim": lambda value, characters=None: environment.text(value).strip(characters),
        "upper": lambda value: environment.text(value).upper(),
    }


def _check(tree: nodes.Template, filters: Iterable[str]) -> None:
    """Refuse what is not listed."""
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, NODES):
            _refuse(node, f"{type(node).__name__.lower()} is not available in templates")
        if isinstance(node, nodes.For) and node.recursive:
            _refuse(node, "loops cannot be recursive")
        if isinstance(node, nodes.Name) and node.name in ("self", "super", "caller"):
            _refuse(node, f'"{node.name}" is not available in templates')
        if isinstance(node, nodes.Filter) and node.name not in filters:
            names = ", ".join(name for name in filters if not name.startswith("#"))
            _refuse(node, f"there is no filter {node.name}; there are {names}")
        if isinstance(node, nodes.Test) and node.name not in TESTS:
            _refuse(node, f"there is no test {node.name}; there are {', '.join(TESTS)}")
        # A tuple as a key could be nested in itself, and take for ever to hash.
        if isinstance(node, nodes.Pair) and not isinstance(node.key, nodes.Const):
            _refuse(node, "the keys of an object must be written out")


def _default(value: Any, other: Any = "", boolean: bool = False) -> Any:
    return other if isinstance(value, Undefined) or (boolean and not value) else value


class _Meter(NodeTransformer):
    """Leads what can be repeated or grow through the filters that pay for it."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2's naming
        """A round of a loop costs a step."""
        self.generic_visit(node)
        node.iter = _through(COUNTED, node.iter)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        """Lists that hold the same list twice, and so on, take for ever to compare."""
        self.generic_visit(node)
        node.expr = _through(PAID, node.expr)
        for operand in node.ops:
            operand.expr = _through(PAID, operand.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        """Jinja does not let `~` be intercepted."""
        self.generic_visit(node)
        return _through(JOINED, nodes.List(node.nodes, lineno=node.lineno))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        """A slice is a copy."""
        self.generic_visit(node)
        return _through(PAID, node) if isinstance(node.arg, nodes.Slice) else node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        """Lists have no hash, which a nested tuple takes for ever to compute."""
        self.generic_visit(node)
        return nodes.List(node.items, lineno=node.lineno) if node.ctx == "load" else node


def _through(name: str, node: nodes.Node) -> nodes.Filter:
    return nodes.Filter(cast(nodes.Expr, node), name, [], [], None, None, lineno=node.lineno)


def _refuse(node: nodes.Node, reason: str) -> NoReturn:
    raise TemplateSyntaxError(reason, node.lineno)


def _size_of_result(operator: str, left: Any, right: Any) -> int:
    """Characters of a text, or bytes of a list, that an operator is about to make."""
    size = sum(
        len(one) * (1 if isinstance(one, str) else 8)
        for one in (left, right)
        if isinstance(one, SIZED)
    )
    times = next((one for one in (left, right) if isinstance(one, int)), 1)
    return size * max(times, 0) if operator == "*" else size


def _check_bits(bits: int) -> None:
    if bits > MAX_NUMBER_BITS:
        raise SecurityError("a number is too large")


def _present(value: Any) -> Any:
    """The value, or what its absence raises."""
    if isinstance(value, Undefined):
        str(value)
    return value


def _bounded(pieces: Iterator[str]) -> str:
    found: list[str] = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > MAX_OUTPUT_CHARACTERS:
            raise SecurityError(f"the text is longer than {MAX_OUTPUT_CHARACTERS:,} characters")
        found.append(piece)
    return "".join(found)


def _line_of(error: BaseException) -> int | None:
    """The line of the template in which something was raised."""
    line = None
    for frame, number in walk_tb(error.__traceback__):
        if frame.f_code.co_filename == "<template>":
            line = number
    return line


def _kind(value: Any) -> str:
    names = {str: "a text", list: "a list", dict: "an object", type(None): "null"}
    names |= {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        LoopContext: "the loop",
    }
    return names.get(type(value), "a method" if callable(value) else "this value")


def _short(text: str) -> str:
    cut = len(text) > MAX_SHOWN_CHARACTERS
    return text[:MAX_SHOWN_CHARACTERS] + "..." if cut else text


def _invalid(reason: str, line: int | None = None) -> InvalidTemplate:
    place = f"template line {line}" if line else "template"
    return InvalidTemplate(f"{place}: {reason}", param="template")
