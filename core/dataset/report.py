"""What validation found in an uploaded file, known once all of it was read."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

ShapeName = Literal[
    "text", "messages", "prompt_completion", "conversations", "alpaca", "input_ids", "columns"
]
FormatName = Literal["jsonl", "json", "csv", "parquet"]
CompressionName = Literal["gzip", "zstd"]

FORMATS: tuple[FormatName, ...] = get_args(FormatName)


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
    format: FormatName = "jsonl"
    compression: CompressionName | None = None
    duplicate_rows: int = 0
    """Rows that repeat an earlier one, letter by letter."""
    duplicates_are_estimated: bool = False
    """In a large file they are counted in a part of the rows that their content chooses."""
    empty_rows: int = 0
    """Rows with nothing but white space to learn from."""
    roles: Mapping[str, int] = field(default_factory=dict)
    """Messages by role, as the file has them."""
    lengths: Mapping[str, int] = field(default_factory=dict)
    """Characters (of `input_ids`: tokens) of a row: min, p10, p50, p90, p99, max; within 1 %."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        return asdict(self) | {"errors": [error.to_dict() for error in self.errors]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The report that `to_dict` wrote, in this version or an earlier one."""
        columns = {name: ColumnReport(**column) for name, column in data["columns"].items()}
        errors = tuple(LineError(**error) for error in data["errors"])
        return cls(**{**data, "columns": columns, "errors": errors})
