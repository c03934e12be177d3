"""What validation found in a file."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Shape = Literal["text", "messages", "prompt_completion", "columns"]
"""`columns` is anything else: to be trained on by dataset_text_field or a template."""


@dataclass(frozen=True, slots=True)
class LineError:
    """One bad line. `line` counts from 1; 0 means the file as a whole."""

    line: int
    column: str | None
    """Path of the field within the row, like `messages[2].role`."""
    reason: str

    def __str__(self) -> str:
        """The error as a sentence."""
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{f'{self.column} ' if self.column else ''}{self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(slots=True)
class Column:
    """What is known of one column."""

    rows: int = 0
    """Rows that have it, null or not."""
    types: dict[str, int] = field(default_factory=dict)
    """How often each JSON type stands in it."""
    first_missing_line: int | None = None
    first_null_line: int | None = None

    @property
    def is_text(self) -> bool:
        """Whether each value is a string."""
        return set(self.types) == {"string"}


@dataclass(slots=True)
class FileReport:
    """What validation found. A file with errors cannot be used."""

    rows: int = 0
    blank_lines: int = 0
    shape: Shape | None = None
    columns: dict[str, Column] = field(default_factory=dict)
    errors: list[LineError] = field(default_factory=list)
    """The first ones."""
    error_count: int = 0
    sample: dict[str, Any] | None = None
    """The first row, long strings cut."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The report that `to_dict` gave."""
        columns = {name: Column(**column) for name, column in values["columns"].items()}
        errors = [LineError(**error) for error in values["errors"]]
        return cls(**{**values, "columns": columns, "errors": errors})
