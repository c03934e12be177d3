"""Bytes that a child printed, as lines that can be stored and shown."""

import re
from collections.abc import Iterator

MAX_LINE_BYTES = 8192
"""Longer lines are cut; the rest of the line is dropped."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class LineSplitter:
    """Cuts a stream of bytes into clean lines, in bounded memory."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_cut = False

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that `data` completes."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._is_cut:
                self._is_cut = False
                continue
            yield clean_line(line)
        if len(rest) > MAX_LINE_BYTES and not self._is_cut:
            yield clean_line(rest)
            self._is_cut = True
        self._rest = b"" if self._is_cut else rest

    def finish(self) -> Iterator[str]:
        """What is left when the stream has ended without a newline."""
        if self._rest:
            yield clean_line(self._rest)
        self._rest = b""


def clean_line(line: bytes) -> str:
    """Readable text: no escapes or control characters, only the last state of a progress bar."""
    text = line[: MAX_LINE_BYTES + 1].decode("utf-8", errors="replace").rstrip("\r")
    text = text.rsplit("\r", 1)[-1]
    text = _CONTROLS.sub("", _ESCAPES.sub("", text))
    return text if len(line) <= MAX_LINE_BYTES else f"{text[:MAX_LINE_BYTES]} ... (cut)"
