"""Reads the rows of a file that was validated before."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson

from core.dataset.checking import MAX_ROW_BYTES
from core.dataset.parquet import parquet_rows
from core.dataset.report import CompressionName, FormatName
from core.dataset.shapes import Problem, Row
from core.dataset.unpack import unpacker
from core.dataset.validate import make_parser
from core.errors import InvalidFile

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """A file on this machine, and what it is."""

    path: Path
    format: FormatName = "jsonl"
    compression: CompressionName | None = None

    @property
    def place_name(self) -> str:
        """What a row's number counts."""
        return "Row" if self.format == "parquet" else "Line"


def rows_of(source: Source, *, every: int = 1) -> Iterator[tuple[int, Row]]:
    """Every n-th row with its line, or its number in a table.

    InvalidFile names what cannot be read.
    """
    for line, text in json_rows(source, every=every):
        try:
            row = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InvalidFile(f"{source.place_name} {line} is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise InvalidFile(f"{source.place_name} {line} is not a JSON object.")
        yield line, row


def json_rows(source: Source, *, every: int = 1) -> Iterator[tuple[int, bytes]]:
    """The same, with each row as JSON that is not looked at."""
    if source.format == "parquet":
        yield from _parquet(source, every)
        return
    yield from islice(_lines(source), 0, None, every)


def _lines(source: Source) -> Iterator[tuple[int, bytes]]:
    rows = _Rows(source.place_name)
    parser = make_parser(source.format, rows)
    for chunk in _unpacked(source):
        parser.feed(chunk)
        yield from rows.take()
    parser.end()
    yield from rows.take()


class _Rows:
    """A sink that keeps what it gets until it is taken."""

    def __init__(self, place_name: str) -> None:
        self.max_row_bytes = MAX_ROW_BYTES
        self._rows: list[tuple[int, bytes]] = []
        self._place_name = place_name

    def read(self, line: int, text: bytes) -> None:
        self._rows.append((line, text))

    def refuse(self, line: int, problem: Problem) -> None:
        raise InvalidFile(f"{self._place_name} {line}: {problem.reason}.")

    def refuse_size(self, line: int) -> None:
        raise InvalidFile(f"{self._place_name} {line} is too long.")

    def take(self) -> list[tuple[int, bytes]]:
        taken, self._rows = self._rows, []
        return taken


def _parquet(source: Source, every: int) -> Iterator[tuple[int, bytes]]:
    if source.compression is None:
        yield from parquet_rows(source.path, every=every)
        return
    # Its table of contents is at its end: it must be unpacked before it can be read.
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        for piece in _unpacked(source):
            file.write(piece)
        file.flush()
        yield from parquet_rows(Path(file.name), every=every)


def _unpacked(source: Source) -> Iterator[bytes]:
    with source.path.open("rb") as file:
        chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
        if source.compression is None:
            yield from chunks
            return
        unpack = unpacker(source.compression)
        for chunk in chunks:
            yield from unpack.feed(chunk)
        unpack.end()
