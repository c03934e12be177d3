"""Counts the columns of all rows, at the price of one lookup for each row.

Rows with the same columns of the same types are counted together and spread over the columns at
the end: a file has few such patterns, however many rows.
"""

from collections import Counter
from dataclasses import dataclass, field
from types import NoneType

from core.dataset.report import ColumnReport
from core.dataset.shapes import Problem, Row, quoted

MAX_COLUMNS = 1_000
MAX_NAME_CHARACTERS = 256
MAX_PATTERNS = 1_000
"""As many are counted apart; then their counts are spread, so that memory stays bounded."""

TYPE_NAMES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    NoneType: "null",
    list: "list",
    dict: "object",
}


@dataclass(slots=True)
class Pattern:
    """Rows with the same columns of the same types."""

    types: dict[str, type]
    problem: Problem | None = None
    """What is wrong with every such row."""
    rows: int = 0
    is_nested: bool = field(init=False)

    def __post_init__(self) -> None:
        kinds = self.types.values()
        self.is_nested = list in kinds or dict in kinds


@dataclass(slots=True)
class _Column:
    rows: int = 0
    types: Counter[str] = field(default_factory=Counter)
    first_missing_line: int | None = None
    first_null_line: int | None = None


class ColumnTable:
    """All columns of a file."""

    def __init__(self) -> None:
        self.patterns: dict[tuple[object, ...], Pattern] = {}
        """By the names of the columns followed by their types: look up with `pattern_key`."""
        self.first_row_line: int | None = None
        self._columns: dict[str, _Column] = {}
        self._always: set[str] = set()
        """Columns that no row has lacked so far."""

    def refusal(self, row: Row) -> Problem | None:
        """Why a row with these columns cannot be taken into the table."""
        new = [name for name in row if name not in self._columns]
        if len(self._columns) + len(new) > MAX_COLUMNS:
            return Problem(None, f"with this row the file has more than {MAX_COLUMNS:,} columns")
        for name in new:
            if len(name) > MAX_NAME_CHARACTERS:
                limit = f"more than {MAX_NAME_CHARACTERS} characters"
                return Problem(None, f"the column name {quoted(name)} has {limit}")
            if not name.strip() or "\0" in name:
                return Problem(None, f"{quoted(name)} cannot be the name of a column")
        return None

    def add(self, row: Row, line: int, problem: Problem | None) -> Pattern:
        """Take in the first row of a pattern; the caller counts its rows."""
        if len(self.patterns) >= MAX_PATTERNS:
            self._spread()
        for name in row:
            if name not in self._columns:
                self._columns[name] = _Column(first_missing_line=self.first_row_line)
                if self.first_row_line is None:
                    self._always.add(name)
        for name in self._always - row.keys():
            self._columns[name].first_missing_line = line
        self._always &= row.keys()
        for name, value in row.items():
            column = self._columns[name]
            if value is None and column.first_null_line is None:
                column.first_null_line = line
        if self.first_row_line is None:
            self.first_row_line = line
        pattern = Pattern({name: type(value) for name, value in row.items()}, problem)
        self.patterns[pattern_key(row)] = pattern
        return pattern

    def reports(self) -> dict[str, ColumnReport]:
        """What is known about each column, in the order in which they came up."""
        self._spread()
        return {
            name: ColumnReport(
                rows=column.rows,
                types=dict(column.types),
                first_missing_line=column.first_missing_line,
                first_null_line=column.first_null_line,
            )
            for name, column in self._columns.items()
        }

    def _spread(self) -> None:
        for pattern in self.patterns.values():
            for name, kind in pattern.types.items():
                column = self._columns[name]
                column.rows += pattern.rows
                column.types[TYPE_NAMES[kind]] += pattern.rows
        self.patterns.clear()


def pattern_key(row: Row) -> tuple[object, ...]:
    """Equal for rows with the same columns of the same types in the same order."""
    return (*row, *map(type, row.values()))
