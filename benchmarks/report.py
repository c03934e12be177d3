"""The result of a benchmark, as a table for people or as JSON."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

Cell = str | int | float | None


@dataclass
class Report:
    """Rows of numbers under columns, and whether the goals were reached."""

    title: str
    columns: Sequence[str]
    rows: list[list[Cell]] = field(default_factory=list)
    goals: list[tuple[str, bool]] = field(default_factory=list)
    """What was to be reached, with the number that was, and whether it was."""

    def show(self, *, as_json: bool) -> None:
        """Print it."""
        if as_json:
            print(orjson.dumps(self._as_dict(), option=orjson.OPT_INDENT_2).decode())
            return
        print(f"\n{self.title} ({_machine()})\n")
        print(self.markdown())
        print()
        for goal, is_reached in self.goals:
            print(f"- {'reached' if is_reached else 'MISSED'}: {goal}")

    def markdown(self) -> str:
        """The rows as a table in Markdown."""
        lines = [[_text(cell) for cell in row] for row in [list(self.columns), *self.rows]]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rule = ["-" * width for width in widths]
        padded = [
            [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
            for line in [lines[0], rule, *lines[1:]]
        ]
        return "\n".join(f"| {' | '.join(line)} |" for line in padded)

    def _as_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "machine": _machine(),
            "rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "goals": [{"goal": goal, "reached": reached} for goal, reached in self.goals],
        }


def parser_of(documentation: str) -> argparse.ArgumentParser:
    """A command line with --json, described by a module's docstring."""
    parser = argparse.ArgumentParser(
        description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return parser


def _machine() -> str:
    return f"{os.cpu_count()} cores, load of the last minute {os.getloadavg()[0]:.1f}"


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.2g}" if abs(cell) < 0.01 else f"{cell:,.2f}"
    return f"{cell:,}" if isinstance(cell, int) else cell
