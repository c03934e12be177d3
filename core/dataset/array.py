"""Reads a JSON array of objects while it streams by, one object in memory at a time."""

import json
import re

from core.dataset.shapes import Problem
from core.dataset.sink import RowSink
from core.dataset.text import TextDecoder

SPACE = re.compile(r"[ \t\r\n]*")
CLOSE_TO_THE_END = 16
"""Characters: a mistake so near to the end may be a word that was cut there."""


class _Stop(Exception):
    """Nothing further can be read."""


class ArrayParser:
    """Feeds the objects of an array to a sink; after a mistake in JSON nothing further is read."""

    def __init__(self, sink: RowSink):
        self._sink = sink
        self._decoder = TextDecoder()
        self._scan = json.JSONDecoder(strict=False).raw_decode
        self._text = ""
        self._at = 0
        self._line = 1
        self._expected = "["
        self._try_at = 0
        """Length of text at which it is worth trying again to read an object to its end."""
        self._is_stopped = False

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the file."""
        self._take(self._decoder.feed(chunk), is_last=False)

    def end(self) -> None:
        """The array must be closed by now."""
        self._take(self._decoder.feed(b"", final=True), is_last=True)

    def _take(self, text: str, *, is_last: bool) -> None:
        if self._is_stopped:
            return
        self._text += text
        try:
            while self._step(is_last=is_last):
                pass
            if self._decoder.problem is not None:
                self._stop(self._decoder.line, self._decoder.problem.reason)
            if is_last and self._expected != "end":
                self._stop(self._line, 'the file ends before the "]" of its array')
        except _Stop:
            self._is_stopped = True
            self._text = ""
            return
        self._text = self._text[self._at :]
        self._at = 0

    def _step(self, *, is_last: bool) -> bool:
        """Read one part of the array; False when more text is needed."""
        self._skip_space()
        if self._at >= len(self._text):
            return False
        found = self._text[self._at]
        if self._expected == "end":
            self._stop(self._line, "something follows the array")
        if self._expected == "{" or (self._expected == "first" and found != "]"):
            return self._object(is_last=is_last)
        if found == "]" and self._expected in ("first", ","):
            self._expected = "end"
        elif found == self._expected:
            self._expected = "first" if found == "[" else "{"
        else:
            self._stop(self._line, f"not JSON: {found!r} where a {self._expected!r} is needed")
        self._at += 1
        return True

    def _object(self, *, is_last: bool) -> bool:
        text, start = self._text, self._at
        if text[start] != "{":
            self._stop(self._line, f"an object is needed, not {text[start : start + 20]!r}")
        if len(text) - start < self._try_at and not is_last:
            return False
        try:
            _, end = self._scan(text, start)
        except json.JSONDecodeError as error:
            return self._wait(error, is_last=is_last)
        except RecursionError:
            self._stop(self._line, "the row is nested too deep")
        self._try_at = 0
        # Strict parsing, and all limits, are the sink's.
        self._sink.read(self._line, text[start:end].encode("utf-8", "surrogatepass"))
        self._line += text.count("\n", start, end)
        self._at = end
        self._expected = ","
        return True

    def _wait(self, error: json.JSONDecodeError, *, is_last: bool) -> bool:
        """Decide between an object that goes on in the next chunk and one that is wrong."""
        is_cut = error.msg.startswith("Unterminated string")
        is_cut = is_cut or error.pos >= len(self._text) - CLOSE_TO_THE_END
        if is_last or not is_cut:
            place = f"line {self._line + error.lineno - 1 - self._text.count(chr(10), 0, self._at)}"
            self._stop(self._line, f"not JSON: {error.msg} in {place}, character {error.colno}")
        waiting = len(self._text) - self._at
        if waiting > self._sink.max_row_bytes:
            self._sink.refuse_size(self._line)
            raise _Stop
        self._try_at = 2 * waiting
        return False

    def _skip_space(self) -> None:
        match = SPACE.match(self._text, self._at)
        assert match is not None
        self._line += self._text.count("\n", self._at, match.end())
        self._at = match.end()

    def _stop(self, line: int, reason: str) -> None:
        self._sink.refuse(line, Problem(None, reason))
        raise _Stop
