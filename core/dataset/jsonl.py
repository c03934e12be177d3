"""Reads JSONL while it streams by, in memory that does not depend on the size of the file."""

from core.dataset.checking import MAX_ROW_BYTES, RowChecker
from core.dataset.report import FileReport
from core.dataset.shapes import Problem
from core.dataset.sink import RowSink

WINDOW_BYTES = 1024 * 1024
"""A larger chunk is read in parts, so that its lines are never all in memory twice."""

UTF8_MARK = b"\xef\xbb\xbf"
FOREIGN = {
    b"\xff\xfe": "the file is UTF-16; save it as UTF-8",
    b"\xfe\xff": "the file is UTF-16; save it as UTF-8",
    b"PK\x03\x04": "the file is a zip archive; upload the file in it",
    b"\x1f\x8b": "the file is compressed twice; unpack it once",
    b"\x28\xb5\x2f\xfd": "the file is compressed twice; unpack it once",
}
"""First bytes of files that are taken for text by mistake."""


class JsonlValidator:
    """Feed it a file in chunks of any size, then take its report.

    It raises nothing: what is wrong with the file is in the report.
    """

    def __init__(self, *, max_line_bytes: int = MAX_ROW_BYTES):
        self._checker = RowChecker(max_row_bytes=max_line_bytes)
        self._parser = JsonlParser(self._checker)
        self.feed = self._parser.feed

    def finish(self) -> FileReport:
        """The report, after the last chunk."""
        self._parser.end()
        return self._checker.report(blank_lines=self._parser.blank_lines)


class JsonlParser:
    """Feeds the lines of a file to a sink."""

    def __init__(self, sink: RowSink):
        self._sink = sink
        self._tail = bytearray()
        """The beginning of a line whose end is yet to come."""
        self._is_skipping = False
        """Inside a line that is too long."""
        self._is_stopped = False
        """No further line can change the verdict."""
        self._line = 0
        self.blank_lines = 0

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the file."""
        for start in range(0, len(chunk), WINDOW_BYTES):
            if self._is_stopped:
                return
            self._read_window(chunk[start : start + WINDOW_BYTES])

    def end(self) -> None:
        """Read the last line, if it has no end of its own."""
        if self._tail and not self._is_stopped:
            self._end_line()

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
        if self._is_skipping or self._is_stopped:
            return
        self._tail += part
        if len(self._tail) > self._sink.max_row_bytes:
            self._sink.refuse_size(self._line + 1)
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
        if self._line == 0 and lines and not self._is_stopped:
            lines[0] = self._without_mark(lines[0])
        read = self._sink.read
        for number, line in enumerate(lines, self._line + 1):
            if self._is_stopped:
                return
            if not line or line.isspace():
                self.blank_lines += 1
            else:
                read(number, line)
        self._line += len(lines)

    def _without_mark(self, line: bytes) -> bytes:
        for mark, reason in FOREIGN.items():
            if line.startswith(mark):
                self._sink.refuse(1, Problem(None, reason))
                self._is_stopped = True
        return line.removeprefix(UTF8_MARK)
