"""Validates an uploaded file of any format while it streams by."""

from pathlib import PurePath

from core.dataset.array import ArrayParser
from core.dataset.checking import RowChecker
from core.dataset.jsonl import UTF8_MARK, JsonlParser
from core.dataset.report import CompressionName, FileReport, FormatName
from core.dataset.shapes import Problem
from core.dataset.sink import Parser, RowSink
from core.dataset.table import CsvParser
from core.dataset.unpack import Unpacker, compression_of, unpacker
from core.errors import InvalidFile

HEAD_BYTES = 4096
PARQUET_MAGIC = b"PAR1"
SUFFIXES: dict[str, FormatName] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
"""Names that decide where the content could be either. An array is told by its first bracket."""


class FileValidator:
    """Feed it a file in chunks of any size, then take its report. It raises nothing.

    Parquet cannot be read from front to back: then `needs_file` is true and there is no report.
    """

    def __init__(self, filename: str, *, format_name: FormatName | None = None):
        self._filename = filename
        self._checker = RowChecker()
        self._head = b""
        self._unpacker: Unpacker | None = None
        self._compression: CompressionName | None = None
        self._format: FormatName | None = format_name
        self._is_begun = False
        self._parser: Parser | None = None
        self._is_stopped = False

    @property
    def needs_file(self) -> bool:
        """Whether the file as a whole must be looked at in place of this report."""
        return self._format == "parquet" and not self._is_stopped

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the file."""
        if self._is_begun:
            self._unpack(chunk)
            return
        self._head += chunk
        if len(self._head) >= HEAD_BYTES:
            self._begin()

    @property
    def compression(self) -> CompressionName | None:
        """How the file is packed as a whole."""
        return self._compression

    def finish(self) -> FileReport:
        """The report, after the last chunk."""
        if not self._is_begun:
            self._begin()
        if self._unpacker is not None and not self._is_stopped:
            try:
                self._unpacker.end()
            except InvalidFile as error:
                self._stop(error.message)
        if self._parser is None and not self.needs_file and not self._is_stopped:
            self._choose()
        if self._parser is not None and not self._is_stopped:
            self._parser.end()
        blank = self._parser.blank_lines if isinstance(self._parser, JsonlParser) else 0
        return self._checker.report(
            blank_lines=blank, format_name=self._format or "jsonl", compression=self._compression
        )

    def _begin(self) -> None:
        """The file is known by its first bytes."""
        self._is_begun = True
        head, self._head = self._head, b""
        self._compression = compression_of(head)
        if self._compression is not None:
            self._unpacker = unpacker(self._compression)
        self._unpack(head)

    def _unpack(self, chunk: bytes) -> None:
        if self._is_stopped:
            return
        if self._unpacker is None:
            self._parse(chunk)
            return
        try:
            for piece in self._unpacker.feed(chunk):
                self._parse(piece)
        except InvalidFile as error:
            self._stop(error.message)

    def _parse(self, piece: bytes) -> None:
        if self._parser is not None:
            self._parser.feed(piece)
        elif not self.needs_file:
            self._head += piece
            if len(self._head) >= HEAD_BYTES:
                self._choose()

    def _choose(self) -> None:
        """Take the parser for what the unpacked file begins with."""
        head, self._head = self._head, b""
        self._format = self._format or format_of(head, self._filename)
        if self._format == "parquet":
            return
        self._parser = make_parser(self._format, self._checker)
        self._parser.feed(head)

    def _stop(self, reason: str) -> None:
        self._checker.refuse(0, Problem(None, reason))
        self._is_stopped = True


def format_of(head: bytes, filename: str) -> FormatName:
    """The format of a file that begins like this, packed or not."""
    if head.startswith(PARQUET_MAGIC):
        return "parquet"
    first = head.removeprefix(UTF8_MARK).lstrip()[:1]
    suffixes = [suffix.lower() for suffix in PurePath(filename).suffixes]
    named = next((SUFFIXES[suffix] for suffix in suffixes if suffix in SUFFIXES), None)
    if named == "csv":
        return "csv"
    return "json" if first == b"[" else "jsonl"


def make_parser(name: FormatName, sink: RowSink) -> Parser:
    """A parser of this format; Parquet has none."""
    if name == "json":
        return ArrayParser(sink)
    return CsvParser(sink) if name == "csv" else JsonlParser(sink)
