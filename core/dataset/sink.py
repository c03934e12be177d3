"""Where the parsers of all formats put rows."""

from typing import Protocol

from core.dataset.shapes import Problem


class RowSink(Protocol):
    """Takes rows as JSON, whatever they stood in, and what is wrong with others."""

    max_row_bytes: int

    def read(self, line: int, text: bytes) -> None:
        """Take one row."""
        ...

    def refuse(self, line: int, problem: Problem) -> None:
        """Take note of something that is no row."""
        ...

    def refuse_size(self, line: int) -> None:
        """Take note of a row that is too long."""
        ...


class Parser(Protocol):
    """Cuts a stream of bytes into rows for its sink. It raises nothing."""

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the file."""
        ...

    def end(self) -> None:
        """There are no more bytes."""
        ...
