"""Reads CSV while it streams by: the first record names the columns."""

import csv
from collections import Counter
from collections.abc import Iterable

import orjson

from core.dataset.shapes import Problem, quoted
from core.dataset.sink import RowSink
from core.dataset.text import TextDecoder

DELIMITERS = ",;\t|"
NESTED = frozenset(
    {"messages", "conversations", "prompt", "completion", "tools", "input_ids", "labels"}
)
"""Columns whose cells are lists where they look like lists."""

csv.field_size_limit(64 * 1024 * 1024)  # Of the process; our own limit is below it.


class CsvParser:
    """Feeds records to a sink as rows. A cell in quotes may have line ends in it."""

    def __init__(self, sink: RowSink):
        self._sink = sink
        self._decoder = TextDecoder()
        self._tail = ""
        self._open: list[str] = []
        """Lines of a record whose last quote is not closed yet."""
        self._open_size = 0
        self._line = 0
        self._header: list[str] = []
        self._delimiter = ","
        self._is_stopped = False

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the file."""
        lines = (self._tail + self._decoder.feed(chunk)).split("\n")
        self._tail = lines.pop()
        self._take(lines)
        if len(self._tail) > self._sink.max_row_bytes and not self._is_stopped:
            self._stop_at_size()
        if self._decoder.problem is not None:
            self._stop(self._decoder.line, self._decoder.problem.reason)

    def end(self) -> None:
        """Read the last line, if it has no end of its own."""
        rest = self._tail + self._decoder.feed(b"", final=True)
        self._tail = ""
        self._take([rest] if rest else [])
        if self._open:
            line = self._line - len(self._open) + 1
            self._stop(line, "a quote is opened in this row and never closed")

    def _take(self, lines: Iterable[str]) -> None:
        for text in lines:
            if self._is_stopped:
                return
            self._line += 1
            is_odd = text.count('"') % 2 == 1
            if self._open:
                self._open.append(text)
                self._open_size += len(text)
                if is_odd:
                    self._record(self._open)
                    self._open, self._open_size = [], 0
                elif self._open_size > self._sink.max_row_bytes:
                    self._stop_at_size()
            elif is_odd:
                self._open, self._open_size = [text], len(text)
            elif text and not text.isspace():
                self._record([text])

    def _record(self, lines: list[str]) -> None:
        line = self._line - len(lines) + 1
        if not self._header:
            self._delimiter = _delimiter_of(lines[0])
        # The last line end belongs to no cell.
        lines = [text + "\n" for text in lines[:-1]] + [lines[-1].rstrip("\r")]
        try:
            (cells,) = csv.reader(lines, delimiter=self._delimiter, strict=True)
        except (csv.Error, ValueError) as error:
            self._sink.refuse(line, Problem(None, f"wrong quoting: {error}"))
            self._is_stopped = not self._header
            return
        if not self._header:
            self._set_header(line, cells)
        elif len(cells) != len(self._header):
            columns = f"the header names {len(self._header)}"
            self._sink.refuse(line, Problem(None, f"the row has {len(cells)} cells; {columns}"))
        else:
            self._row(line, cells)

    def _row(self, line: int, cells: list[str]) -> None:
        row = {name: _value(name, cell) for name, cell in zip(self._header, cells, strict=True)}
        self._sink.read(line, orjson.dumps(row))

    def _set_header(self, line: int, names: list[str]) -> None:
        names = [name.strip() for name in names]
        # To count each name in all of them takes minutes when there are very many.
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if len(names) > 10_000:
            self._stop(line, "the header names more than 10,000 columns")
        elif twice is not None:
            self._stop(line, f"the header names {quoted(twice)} twice")
        elif "" in names:
            self._stop(line, "the header has a column without a name")
        self._header = names

    def _stop_at_size(self) -> None:
        self._sink.refuse_size(self._line - len(self._open) + 1)
        self._is_stopped, self._open, self._tail = True, [], ""

    def _stop(self, line: int, reason: str) -> None:
        if not self._is_stopped:
            self._sink.refuse(line, Problem(None, reason))
        self._is_stopped, self._open, self._tail = True, [], ""


def _delimiter_of(header: str) -> str:
    """The separator that the names of the columns have most of between them."""
    bare = "".join(header.split('"')[::2])
    return max(DELIMITERS, key=bare.count)


def _value(name: str, cell: str) -> object:
    if name in NESTED and cell[:1] == "[":
        try:
            return orjson.loads(cell)
        except orjson.JSONDecodeError:
            return cell
    return cell
