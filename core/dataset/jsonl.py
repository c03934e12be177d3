"""Validates JSONL while it streams by, in memory that does not depend on the size of the file."""

import re
from typing import Any

import orjson

from core.dataset.columns import ColumnTable, Pattern, pattern_key
from core.dataset.report import FileReport, LineError
from core.dataset.shapes import (
    WORDS,
    Problem,
    Row,
    Shape,
    column_problem,
    messages_problem,
    shape_of,
)

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_VALUES = 200_000
"""Values in one row. A parsed value takes up to a hundred times the memory of its text."""
MAX_ERRORS = 20
MAX_SAMPLE_CHARACTERS = 500
"""Of each string."""
MAX_SAMPLE_BYTES = 64 * 1024

WINDOW_BYTES = 1024 * 1024
"""A larger chunk is read in parts, so that its lines are never all in memory twice."""

UTF8_MARK = b"\xef\xbb\xbf"
FOREIGN = {
    b"\xff\xfe": "the file is UTF-16; save it as UTF-8",
    b"\xfe\xff": "the file is UTF-16; save it as UTF-8",
    b"\x1f\x8b": "the file is compressed with gzip; upload it unpacked",
    b"PK\x03\x04": "the file is a zip archive; upload the JSONL file in it",
    b"\x28\xb5\x2f\xfd": "the file is compressed with zstd; upload it unpacked",
    b"PAR1": "the file is Parquet; convert it to JSONL",
}
"""First bytes of files that are taken for JSONL by mistake."""

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


class JsonlValidator:
    """Feed it a file in chunks of any size, then take its report.

    It raises nothing: what is wrong with the file is in the report.
    """

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES):
        self._max_line_bytes = max_line_bytes
        self._suspect_bytes = min(max_line_bytes, MAX_VALUES)
        """A shorter line cannot break a limit of size: each value takes a byte or more."""
        self._tail = bytearray()
        """The beginning of a line whose end is yet to come."""
        self._is_skipping = False
        """Inside a line that is too long."""
        self._is_stopped = False
        """No further line can change the verdict."""
        self._line = 0
        self._rows = 0
        self._blank_lines = 0
        self._errors: list[LineError] = []
        self._error_count = 0
        self._columns = ColumnTable()
        self._shape: Shape | None = None
        self._sample: Row | None = None
        self._is_sampled = False

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the file."""
        for start in range(0, len(chunk), WINDOW_BYTES):
            if self._is_stopped:
                return
            self._read_window(chunk[start : start + WINDOW_BYTES])

    def finish(self) -> FileReport:
        """The report, after the last chunk."""
        if self._tail and not self._is_stopped:
            self._end_line()
        if not self._rows and not self._error_count:
            self._refuse(0, Problem(None, "the file has no rows"))
        return FileReport(
            rows=self._rows,
            shape=self._shape.name if self._shape else None,
            columns=self._columns.reports(),
            blank_lines=self._blank_lines,
            errors=tuple(self._errors),
            error_count=self._error_count,
            sample=self._sample,
        )

    def _read_window(self, window: bytes) -> None:
        head, newline, rest = window.partition(b"\n")
        self._extend_line(head)
        if not newline:
            return
        self._end_line()
        lines = rest.split(b"\n")
        tail = lines.pop()
        self._read_lines(lines)
        self._extend_line(tail)

    def _extend_line(self, part: bytes) -> None:
        if self._is_skipping:
            return
        self._tail += part
        if len(self._tail) > self._max_line_bytes:
            self._refuse(self._line + 1, self._too_long())
            self._tail.clear()
            self._is_skipping = True

    def _end_line(self) -> None:
        if self._is_skipping:
            self._is_skipping = False
            self._line += 1
            return
        line = bytes(self._tail)
        self._tail.clear()
        self._read_lines([line])

    def _read_lines(self, lines: list[bytes]) -> None:
        if self._line == 0 and lines:
            lines[0] = self._without_mark(lines[0])
        for number, line in enumerate(lines, self._line + 1):
            if self._is_stopped:
                return
            if not line or line.isspace():
                self._blank_lines += 1
                continue
            try:
                self._read_row(number, line)
            except orjson.JSONDecodeError as error:
                self._refuse_line(number, line, error)
        self._line += len(lines)

    def _without_mark(self, line: bytes) -> bytes:
        for mark, reason in FOREIGN.items():
            if line.startswith(mark):
                self._stop(1, reason)
        return line.removeprefix(UTF8_MARK)

    def _read_row(self, number: int, line: bytes) -> None:
        """Check one line. This runs for every row: what can be known once is asked once."""
        if len(line) > self._suspect_bytes and (problem := self._size_problem(line)):
            return self._refuse(number, problem)
        row = orjson.loads(line)
        if type(row) is not dict or not row:
            return self._refuse_value(number, row)
        pattern = self._columns.patterns.get(pattern_key(row)) or self._new_pattern(number, row)
        if pattern is None:
            return None
        pattern.rows += 1
        self._rows += 1
        problem = pattern.problem
        if problem is None and pattern.is_nested:
            problem = self._nested_problem(line, row)
        if problem is not None:
            return self._refuse(number, problem)
        if not self._is_sampled:
            self._is_sampled = True
            self._sample = _sample_of(row)
        return None

    def _new_pattern(self, number: int, row: Row) -> Pattern | None:
        refusal = self._columns.refusal(row)
        if refusal is not None:
            self._refuse(number, refusal)
            return None
        if self._shape is None:
            self._shape = shape_of(row)
        return self._columns.add(row, number, column_problem(self._shape, row))

    def _size_problem(self, line: bytes) -> Problem | None:
        if len(line) > self._max_line_bytes:
            return self._too_long()
        # Commas in texts are no values; only lines with very many are worth telling them apart.
        if _count_values(line) > MAX_VALUES and _count_values(STRING.sub(b"", line)) > MAX_VALUES:
            return Problem(None, f"the row has more than {MAX_VALUES:,} values")
        return None

    def _nested_problem(self, line: bytes, row: Row) -> Problem | None:
        # The parser itself refuses what is nested deep enough to hurt it.
        if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _is_deeper_than(row, MAX_DEPTH):
            return Problem(None, f"the row is nested more than {MAX_DEPTH} deep")
        assert self._shape is not None
        return messages_problem(self._shape, row)

    def _too_long(self) -> Problem:
        return Problem(None, f"the line is longer than {_in_words(self._max_line_bytes)}")

    def _refuse_value(self, number: int, value: Any) -> None:
        if isinstance(value, list) and not self._rows and not self._error_count:
            self._stop_at_array(number)
        elif value == {}:
            self._refuse(number, Problem(None, "the object is empty"))
        else:
            found = WORDS[type(value)]
            self._refuse(number, Problem(None, f"the line is {found}; an object is needed"))

    def _refuse_line(self, number: int, line: bytes, error: orjson.JSONDecodeError) -> None:
        if not self._rows and not self._error_count and line.lstrip().startswith(b"["):
            self._stop_at_array(number)
        elif len(self._errors) >= MAX_ERRORS:
            self._error_count += 1
        else:
            self._refuse(number, Problem(None, _why_not_json(line, error)))

    def _stop_at_array(self, number: int) -> None:
        self._stop(number, "the file is a JSON array; write one object on each line instead")

    def _stop(self, number: int, reason: str) -> None:
        self._refuse(number, Problem(None, reason))
        self._is_stopped = True

    def _refuse(self, number: int, problem: Problem) -> None:
        self._error_count += 1
        if len(self._errors) < MAX_ERRORS:
            self._errors.append(LineError(number, problem.column, problem.reason))


def _count_values(line: bytes) -> int:
    return line.count(b",") + line.count(b"[") + line.count(b"{")


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


def _why_not_json(line: bytes, error: orjson.JSONDecodeError) -> str:
    if (nul := line.find(b"\0")) >= 0:
        return f"a NUL byte at byte {nul + 1}"
    try:
        line.decode()
    except UnicodeDecodeError as broken:
        return f"not UTF-8: byte {broken.start + 1} is 0x{line[broken.start]:02x}"
    # The parser points at the letters or, after a minus, at the first of them.
    not_finite = NOT_FINITE.search(error.doc, max(0, error.pos - 1), error.pos + 10)
    if not_finite is not None:
        return f"{not_finite[0]} at character {not_finite.start() + 1} is not JSON; use null"
    for words, reason in PARSER_WORDS.items():
        if words in error.msg:
            return f"{reason} at character {error.pos + 1}"
    return f"not JSON: {error.msg} at character {error.pos + 1}"


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
