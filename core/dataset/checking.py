"""Checks and counts the rows of a file, whatever format they stood in."""

import re
from collections import Counter
from typing import Any

import orjson

from core.dataset.columns import ColumnTable, Pattern, pattern_key
from core.dataset.report import CompressionName, FileReport, FormatName, LineError
from core.dataset.shapes import (
    WORDS,
    Problem,
    Row,
    Shape,
    column_problem,
    content_of,
    nested_problem,
    shape_of,
)
from core.dataset.statistics import DuplicateCounter, Quantiles

MAX_ROW_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_VALUES = 200_000
"""Values in one row. A parsed value takes up to a hundred times the memory of its text."""
MAX_ERRORS = 20
MAX_SAMPLE_CHARACTERS = 500
"""Of each string."""
MAX_SAMPLE_BYTES = 64 * 1024

# The closing quote is optional so that text without one is passed over once, not from each quote.
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
NOT_FINITE = re.compile(r"-?(NaN|Infinity)")

PARSER_WORDS = {
    "depth limit": f"the row is nested more than {MAX_DEPTH} deep",
    "surrogate": "half of a surrogate pair, which is no character,",
    "infinity": "a number that is too large",
    "end of data": "not JSON: the row does not end on its line; it breaks off",
}
"""What the parser says, in the words of somebody who made a file."""


class RowChecker:
    """Feed it all rows of a file, then take its report. It raises nothing."""

    def __init__(self, *, max_row_bytes: int = MAX_ROW_BYTES):
        self.max_row_bytes = max_row_bytes
        self._suspect_bytes = min(max_row_bytes, MAX_VALUES)
        """A shorter row cannot break a limit of size: each value takes a byte or more."""
        self._rows = 0
        self._errors: list[LineError] = []
        self._error_count = 0
        self._columns = ColumnTable()
        self._shape: Shape | None = None
        self._sample: Row | None = None
        self._is_sampled = False
        self._duplicates = DuplicateCounter()
        self._roles: Counter[str] = Counter()
        self._lengths = Quantiles()
        self._empty_rows = 0

    def read(self, line: int, text: bytes) -> None:
        """Check one row in JSON."""
        if len(text) > self._suspect_bytes and (problem := self._size_problem(text)):
            return self.refuse(line, problem)
        try:
            row = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return self._refuse_json(line, text, error)
        if type(row) is not dict or not row:
            return self._refuse_value(line, row)
        return self._check(line, row, text)

    def refuse(self, line: int, problem: Problem) -> None:
        """Note what is wrong with one row."""
        self._error_count += 1
        if len(self._errors) < MAX_ERRORS:
            self._errors.append(LineError(line, problem.column, problem.reason))

    def refuse_size(self, line: int) -> None:
        """Note a row that is too long to be looked at."""
        self.refuse(line, self._too_long())

    def report(
        self,
        *,
        blank_lines: int = 0,
        format_name: FormatName = "jsonl",
        compression: CompressionName | None = None,
    ) -> FileReport:
        """What is known after the last row."""
        if not self._rows and not self._error_count:
            self.refuse(0, Problem(None, "the file has no rows"))
        return FileReport(
            rows=self._rows,
            shape=self._shape.name if self._shape else None,
            columns=self._columns.reports(),
            blank_lines=blank_lines,
            errors=tuple(self._errors),
            error_count=self._error_count,
            sample=self._sample,
            format=format_name,
            compression=compression,
            duplicate_rows=self._duplicates.count(self._rows),
            duplicates_are_estimated=self._duplicates.is_estimated,
            empty_rows=self._empty_rows,
            roles=dict(self._roles),
            lengths=self._lengths.to_dict(),
        )

    def _check(self, line: int, row: Row, text: bytes) -> None:
        """This runs for every row: what can be known once is asked once."""
        pattern = self._columns.patterns.get(pattern_key(row)) or self._new_pattern(line, row)
        if pattern is None:
            return
        pattern.rows += 1
        self._rows += 1
        problem = pattern.problem
        if problem is None and pattern.is_nested:
            problem = self._nested_problem(text, row)
        if problem is not None:
            self.refuse(line, problem)
            return
        self._duplicates.add(hash(text))
        self._measure(row)
        if not self._is_sampled:
            self._is_sampled = True
            self._sample = _sample_of(row)

    def _measure(self, row: Row) -> None:
        assert self._shape is not None
        length, is_empty = measure(self._shape, row)
        self._lengths.add(length)
        self._empty_rows += is_empty

    def _new_pattern(self, line: int, row: Row) -> Pattern | None:
        refusal = self._columns.refusal(row)
        if refusal is not None:
            self.refuse(line, refusal)
            return None
        if self._shape is None:
            self._shape = shape_of(row)
        return self._columns.add(row, line, column_problem(self._shape, row))

    def _size_problem(self, text: bytes) -> Problem | None:
        if len(text) > self.max_row_bytes:
            return self._too_long()
        # Commas in texts are no values; only rows with very many are worth telling them apart.
        if _count_values(text) > MAX_VALUES and _count_values(STRING.sub(b"", text)) > MAX_VALUES:
            return Problem(None, f"the row has more than {MAX_VALUES:,} values")
        return None

    def _nested_problem(self, text: bytes, row: Row) -> Problem | None:
        # The parser itself refuses what is nested deep enough to hurt it.
        if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_deeper_than(row, MAX_DEPTH):
            return Problem(None, f"the row is nested more than {MAX_DEPTH} deep")
        assert self._shape is not None
        return nested_problem(self._shape, row, self._roles)

    def _too_long(self) -> Problem:
        return Problem(None, f"the line is longer than {_in_words(self.max_row_bytes)}")

    def _refuse_value(self, line: int, value: Any) -> None:
        if value == {}:
            self.refuse(line, Problem(None, "the object is empty"))
        else:
            found = WORDS[type(value)]
            self.refuse(line, Problem(None, f"the line is {found}; an object is needed"))

    def _refuse_json(self, line: int, text: bytes, error: orjson.JSONDecodeError) -> None:
        if len(self._errors) >= MAX_ERRORS:
            self._error_count += 1
        else:
            self.refuse(line, Problem(None, why_not_json(text, error)))


def measure(shape: Shape, row: Row) -> tuple[int, bool]:
    """How long a good row is, and whether there is nothing in it to learn."""
    if shape.name == "text":
        text = row["text"]
        return len(text), not text or text.isspace()
    if shape.message_columns:
        messages = [message for name in shape.message_columns for message in row[name]]
        length = 0
        for message in messages:
            length += len(content_of(message) or "")
        return length, length == 0 and not any("tool_calls" in message for message in messages)
    if shape.name == "input_ids":
        return len(row["input_ids"]), False
    if shape.name == "columns":
        texts = [value for value in row.values() if isinstance(value, str)]
        return sum(map(len, texts)), not any(value not in (None, "") for value in row.values())
    answer = row["completion"] if shape.name == "prompt_completion" else row["output"]
    question = row["prompt"] if shape.name == "prompt_completion" else row["instruction"]
    return len(question) + len(answer), not answer or answer.isspace()


def why_not_json(text: bytes, error: orjson.JSONDecodeError) -> str:
    """The reason in words, with the place in the row."""
    if (nul := text.find(b"\0")) >= 0:
        return f"a NUL byte at byte {nul + 1}"
    try:
        text.decode()
    except UnicodeDecodeError as broken:
        return f"not UTF-8: byte {broken.start + 1} is 0x{text[broken.start]:02x}"
    # The parser points at the letters or, after a minus, at the first of them.
    not_finite = NOT_FINITE.search(error.doc, max(0, error.pos - 1), error.pos + 10)
    if not_finite is not None:
        return f"{not_finite[0]} at character {not_finite.start() + 1} is not JSON; use null"
    for words, reason in PARSER_WORDS.items():
        if words in error.msg:
            return f"{reason} at character {error.pos + 1}"
    return f"not JSON: {error.msg} at character {error.pos + 1}"


def _count_values(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _is_deeper_than(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _sample_of(row: Row) -> Row | None:
    sample = _cut(row)
    assert isinstance(sample, dict)
    return sample if len(orjson.dumps(sample)) <= MAX_SAMPLE_BYTES else None


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        # PostgreSQL cannot store U+0000 in JSON.
        return value[:MAX_SAMPLE_CHARACTERS].replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, list):
        return [_cut(item) for item in value]
    if isinstance(value, dict):
        return {_cut(name): _cut(item) for name, item in value.items()}
    return value


def _in_words(size: int) -> str:
    return f"{size // 2**20} MiB" if size % 2**20 == 0 else f"{size:,} bytes"
