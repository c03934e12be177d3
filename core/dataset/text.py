"""Decodes UTF-8 that comes in chunks, and says where it is none."""

import codecs

from core.dataset.shapes import Problem


class TextDecoder:
    """Bytes to text. `problem` says why decoding stopped, if it did; `line` is where."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._line = 1
        self.problem: Problem | None = None

    @property
    def line(self) -> int:
        """The line that the last text ended in, from 1."""
        return self._line

    def feed(self, chunk: bytes, *, final: bool = False) -> str:
        """The text of the next bytes, as far as it is text."""
        if self.problem is not None:
            return ""
        try:
            text = self._decode(chunk, final)
        except UnicodeDecodeError as broken:
            # The object is what the decoder kept from before, and the chunk.
            text = broken.object[: broken.start].decode()
            found = f"0x{broken.object[broken.start]:02x}"
            self.problem = Problem(None, f"not UTF-8: the line has the byte {found}")
        self._line += text.count("\n")
        return text
