"""A parser of JSON lines that trusts nothing: not the length of a line, its depth or its types."""

import re
from collections.abc import Iterator
from typing import Any

import orjson

from core.dataset.report import Column, FileReport, LineError
from core.dataset.shape import check_row, detect_shape

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_COLUMNS = 1000
MAX_ERRORS = 20
SAMPLE_CHARACTERS = 500

_BOM = b"\xef\xbb\xbf"
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_TYPES = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    list: "array",
    dict: "object",
}


class JsonlValidator:
    """Feed it a file in pieces of any size, then `finish`. Memory is bounded by one line."""

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES):
        self._max_line_bytes = max_line_bytes
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._is_too_long = False
        self._line = 0
        self._report = FileReport()

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the file."""
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._append(line)
            self._end_line()
        self._append(rest)

    def finish(self) -> FileReport:
        """What was found, when all of the file was fed."""
        if self._rest_bytes or self._is_too_long:
            self._end_line()
        report = self._report
        if not report.rows and not report.error_count:
            self._refuse(0, None, "The file has no rows.")
        for name, column in report.columns.items():
            if column.rows == report.rows:
                column.first_missing_line = None
            assert column.rows <= report.rows, name
        return report

    def _append(self, piece: bytes) -> None:
        if self._is_too_long or not piece:
            return
        self._rest_bytes += len(piece)
        if self._rest_bytes > self._max_line_bytes:
            self._is_too_long = True
            self._rest.clear()
            return
        self._rest.append(piece)

    def _end_line(self) -> None:
        self._line += 1
        line, too_long = b"".join(self._rest), self._is_too_long
        self._rest, self._rest_bytes, self._is_too_long = [], 0, False
        if too_long:
            limit = self._max_line_bytes // 1024**2
            self._refuse(self._line, None, f"is longer than {limit} MiB.")
            return
        if self._line == 1:
            line = line.removeprefix(_BOM)
        line = line.strip(b" \t\r")
        if not line:
            self._report.blank_lines += 1
            return
        self._check_line(line)

    def _check_line(self, line: bytes) -> None:
        if _depth_exceeds(line, MAX_DEPTH):
            self._refuse(self._line, None, f"is nested deeper than {MAX_DEPTH} levels.")
            return
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            self._refuse(
                self._line, None, f"is not JSON: {error.msg} at character {error.pos + 1}."
            )
            return
        if not isinstance(row, dict):
            self._refuse(self._line, None, f"is {_type(row)}, not an object.")
            return
        self._check_row(row)

    def _check_row(self, row: dict[str, Any]) -> None:
        report = self._report
        if report.shape is None:
            report.shape = detect_shape(row)
            report.sample = _cut(row)
        problem = check_row(row, report.shape)
        if problem is not None:
            self._refuse(self._line, *problem)
            return
        report.rows += 1
        self._count_columns(row)

    def _count_columns(self, row: dict[str, Any]) -> None:
        columns = self._report.columns
        for name, value in row.items():
            column = columns.get(name)
            if column is None:
                if len(columns) >= MAX_COLUMNS:
                    self._refuse(self._line, None, f"is beyond {MAX_COLUMNS} different columns.")
                    return
                first = self._line if self._report.rows > 1 else None
                column = columns[name] = Column(first_missing_line=1 if first else None)
            column.rows += 1
            kind = _TYPES.get(type(value), "null")
            column.types[kind] = column.types.get(kind, 0) + 1
            if value is None and column.first_null_line is None:
                column.first_null_line = self._line
        if len(row) < len(columns):
            for name, column in columns.items():
                if column.first_missing_line is None and name not in row:
                    column.first_missing_line = self._line

    def _refuse(self, line: int, column: str | None, reason: str) -> None:
        self._report.error_count += 1
        if len(self._report.errors) < MAX_ERRORS:
            self._report.errors.append(LineError(line, column, reason))


def _depth_exceeds(line: bytes, limit: int) -> bool:
    """Whether brackets nest deeper than `limit`; strings are only looked into when it may be so."""
    if line.count(b"[") + line.count(b"{") <= limit:
        return False
    depth = 0
    for byte in _brackets(line):
        depth += 1 if byte in b"[{" else -1
        if depth > limit:
            return True
    return False


def _brackets(line: bytes) -> Iterator[int]:
    return iter(re.sub(rb"[^\[\]{}]", b"", _STRINGS.sub(b"", line)))


def _type(value: object) -> str:
    kind = _TYPES.get(type(value), "null")
    article = {"null": "", "array": "an ", "object": "an "}.get(kind, "a ")
    return f"{article}{kind}"


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        # PostgreSQL's JSON has no NUL.
        return value[:SAMPLE_CHARACTERS].replace("\0", "")
    if isinstance(value, list):
        return [_cut(item) for item in value[:20]]
    if isinstance(value, dict):
        return {_cut(name[:100]): _cut(item) for name, item in list(value.items())[:100]}
    return value
