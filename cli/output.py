"""Text for people goes to standard error, data to standard output.

A table is aligned and has a head on a terminal; a pipe gets its cells with tabs between them.
"""

import json
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

from rich.cells import cell_len, set_cell_size

MARKS = {"succeeded": "✓", "failed": "✕", "cancelled": "⊘", "running": "●", "paused": "❚❚"}
ANY_WIDTH = 100_000
HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Cs"}
"""Kinds of characters that move a cursor, change colours, or turn the direction of a line."""


def put(value: Any, as_json: bool, text: str) -> None:
    """The API's own object, or what it says."""
    out = json.dumps(value, indent=2) if as_json else text
    sys.stdout.write(f"{out}\n" if out else "")


def put_rows(
    objects: list[Any],
    as_json: bool,
    rows: Iterable[Iterable[object]],
    *,
    head: Sequence[str] = (),
    only_ids: bool = False,
) -> None:
    """The API's own objects, or a line of columns for each, of which the first is the id."""
    if only_ids:
        rows, head = ([object_["id"]] for object_ in objects), ()
    cells = [[str(cell) for cell in row] for row in rows]
    if as_json or not (is_terminal() and cells):
        put(objects, as_json, "\n".join("\t".join(row) for row in cells))
        return
    put(objects, False, table([*([list(head)] if head else []), *cells], width=width()))


def table(rows: list[list[str]], *, width: int) -> str:
    """Rows with their columns under each other; the last column takes what is left of the line."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [set_cell_size(cell, size) for cell, size in zip(row, widths, strict=True)]
        lines.append(fitted("  ".join(padded).rstrip(), width))
    return "\n".join(lines)


def fitted(text: str, width: int) -> str:
    """A line that is not longer than a terminal is wide."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1).rstrip()}…"


def wrapped(line: str, width: int, *, indent: int = 2) -> str:
    """A line that goes on further to the right, under its own text."""
    if cell_len(line) <= width:
        return line
    return "\n".join(wrap(line, width, subsequent_indent=" " * indent))


def plain(text: str) -> str:
    """Text of strangers for a terminal: nothing in it moves the cursor or turns the line around."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def for_terminal(text: str) -> str:
    """The same on a terminal, line ends kept; a pipe gets what there is."""
    if not is_terminal():
        return text
    return "\n".join(map(plain, text.split("\n")))


def say(text: str) -> None:
    """For people."""
    sys.stderr.write(f"{text}\n")


def is_terminal() -> bool:
    """Whether a person looks at the output."""
    return sys.stdout.isatty()


def width() -> int:
    """How long a line may be: as long as the terminal is wide; a pipe takes any."""
    return shutil.get_terminal_size((80, 24)).columns if is_terminal() else ANY_WIDTH


def _visible(character: str) -> str:
    if character == "\t":
        return "    "
    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character) in HIDDEN else character
