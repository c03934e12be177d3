"""Unpacks gzip and zstd while they stream by, and stops at what was made to unpack without end."""

import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard

from core.dataset.report import CompressionName
from core.errors import InvalidFile

MAGIC: dict[bytes, CompressionName] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

MAX_UNPACKED_BYTES = 64 * 1024**3
MAX_RATIO = 300
"""Text packs to a tenth. Only bombs, and files of one row over and over, pack to so little."""
FREE_BYTES = 256 * 1024**2
"""So much may come out whatever the ratio."""
PIECE_BYTES = 1024 * 1024
ZSTD_SLICE_BYTES = 1024
"""A block of zstd takes 4 bytes and holds up to 128 KiB: so much never becomes over 32 MiB."""
ZSTD_WINDOW_BYTES = 128 * 1024**2


class Unpacker(Protocol):
    """Turns packed chunks into unpacked pieces of bounded size; InvalidFile when it cannot."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What becomes of the next bytes of the file."""
        ...

    def end(self) -> None:
        """InvalidFile when the packed data break off."""
        ...


def compression_of(head: bytes) -> CompressionName | None:
    """How a file that begins like this is packed."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)


def unpacker(name: CompressionName) -> Unpacker:
    """A new unpacker."""
    return _Gzip() if name == "gzip" else _Zstd()


class _Meter:
    """Counts what goes in and comes out."""

    def __init__(self) -> None:
        self._packed = 0
        self._unpacked = 0

    def packed(self, size: int) -> None:
        self._packed += size

    def unpacked(self, size: int) -> None:
        self._unpacked += size
        if self._unpacked > MAX_UNPACKED_BYTES:
            raise InvalidFile(f"the file unpacks to more than {MAX_UNPACKED_BYTES // 1024**3} GiB")
        if self._unpacked > FREE_BYTES and self._unpacked > self._packed * MAX_RATIO:
            raise InvalidFile(
                f"the file unpacks to more than {MAX_RATIO} times its size; upload it unpacked"
            )


class _Gzip:
    def __init__(self) -> None:
        self._meter = _Meter()
        self._stream: zlib._Decompress | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        self._meter.packed(len(chunk))
        while chunk:
            if self._stream is None:
                self._stream = zlib.decompressobj(wbits=31)
            try:
                piece = self._stream.decompress(chunk, PIECE_BYTES)
            except zlib.error as error:
                raise InvalidFile(f"the file is damaged gzip: {error}") from error
            self._meter.unpacked(len(piece))
            if piece:
                yield piece
            chunk = self._stream.unconsumed_tail
            if self._stream.eof:
                # Files put after each other are one file; what fills up a tape is none.
                chunk = self._stream.unused_data.lstrip(b"\0")
                self._stream = None

    def end(self) -> None:
        if self._stream is not None:
            raise InvalidFile("the gzip file breaks off")


class _Zstd:
    def __init__(self) -> None:
        self._meter = _Meter()
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        self._stream: zstandard.ZstdDecompressionObj | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        self._meter.packed(len(chunk))
        for start in range(0, len(chunk), ZSTD_SLICE_BYTES):
            yield from self._feed(chunk[start : start + ZSTD_SLICE_BYTES])

    def _feed(self, part: bytes) -> Iterator[bytes]:
        while part:
            if self._stream is None:
                self._stream = self._unpacker.decompressobj()
            try:
                piece = self._stream.decompress(part)
            except zstandard.ZstdError as error:
                raise InvalidFile(f"the file is damaged zstd: {error}") from error
            self._meter.unpacked(len(piece))
            for start in range(0, len(piece), PIECE_BYTES):
                yield piece[start : start + PIECE_BYTES]
            part = self._stream.unused_data if self._stream.eof else b""
            if self._stream.eof:
                self._stream = None

    def end(self) -> None:
        if self._stream is not None:
            raise InvalidFile("the zstd file breaks off")
