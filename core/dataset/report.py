"""What is known about a file of examples once all of it was read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

ShapeName = Literal["text", "messages", "prompt_completion", "columns"]


@dataclass(frozen=True, slots=True)
class LineError:
    """One thing that is wrong with one line. Line 0 is the file as a whole."""

    line: int
    column: str | None
    """Path of the field, like `messages[2].role`, or None for the whole line."""
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}" if self.line else self.reason

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """One column over all rows."""

    rows: int
    """Rows that have the column, null included."""
    types: Mapping[str, int]
    """Rows by type: string, integer, number, boolean, null, list, object."""
    first_missing_line: int | None = None
    first_null_line: int | None = None


@dataclass(frozen=True, slots=True)
class FileReport:
    """A file of examples, described without its content."""

    rows: int
    shape: ShapeName | None
    """None when no row could be read."""
    columns: Mapping[str, ColumnReport]
    blank_lines: int = 0
    errors: tuple[LineError, ...] = field(default=())
    """The first of them; `error_count` counts all."""
    error_count: int = 0
    sample: dict[str, Any] | None = None
    """The first good row, its strings cut; None when even so it is too large to keep."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        return asdict(self) | {"errors": [error.to_dict() for error in self.errors]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The report that `to_dict` wrote."""
        columns = {name: ColumnReport(**column) for name, column in data["columns"].items()}
        errors = tuple(LineError(**error) for error in data["errors"])
        return cls(**{**data, "columns": columns, "errors": errors})
