"""Downloads: ranges, entity tags by content, archives on the fly. No name reaches a file system."""

import re
import tarfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import anyio
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Send

from app.problems import envelope
from core.checkpoints import ManifestEntry
from core.storage import Storage

BLOCK = tarfile.BLOCKSIZE
MEDIA_TYPE = "application/octet-stream"
PIECE_BYTES = 1024**2
"""Each piece costs a turn of the event loop and one of a thread: Starlette's 64 KiB are slow."""

_ONE_RANGE = re.compile(r"bytes *= *(?=-?[0-9])([0-9]{0,18}) *- *([0-9]{0,18})", re.IGNORECASE)


def file_response(
    request: Request,
    storage: Storage,
    *,
    key: str,
    size: int,
    tag: str,
    filename: str,
    more: Mapping[str, str] | None = None,
) -> Response:
    """One stored object: GET and HEAD, Range, If-Range and If-None-Match by `tag`, its hash.

    `more` are headers beside those of every download.
    """
    headers = {
        **(more or {}),
        "etag": f'"{tag}"',
        "accept-ranges": "bytes",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "cache-control": "private, no-cache",
    }
    if _matches(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    span = _wanted_span(request, size, headers["etag"])
    start, end = span or (0, size)
    if span is not None and start >= end:
        return _unsatisfiable(size)
    headers["content-length"] = str(end - start)
    status = 200
    if span is not None:
        status = 206
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    if request.method == "HEAD":
        storage.size(key)
        return Response(status_code=status, headers=headers, media_type=MEDIA_TYPE)
    path = storage.local_path(key)
    if path is not None and path.is_file():
        pieces = _pieces(path, start, end)
        return _Closing(pieces, status, media_type=MEDIA_TYPE, headers=headers)
    content = storage.read(key) if span is None else storage.read(key, start=start, end=end)
    return StreamingResponse(content, status, media_type=MEDIA_TYPE, headers=headers)


class _Closing(StreamingResponse):
    """Closes what it sends from, also when its client leaves in the middle."""

    body_iterator: AsyncGenerator[bytes]

    async def stream_response(self, send: Send) -> None:
        """Send all of it."""
        try:
            await super().stream_response(send)
        finally:
            with anyio.CancelScope(shield=True):
                await self.body_iterator.aclose()


async def _pieces(path: Path, start: int, end: int) -> AsyncGenerator[bytes]:
    """A part of a file on this machine."""
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(start)
        while start < end and (piece := await file.read(min(PIECE_BYTES, end - start))):
            start += len(piece)
            yield piece


def tar_response(
    storage: Storage, *, prefix: str, entries: list[ManifestEntry], folder: str, mtime: int
) -> Response:
    """A tar of stored objects, made while it is sent: neither in memory nor on disk."""
    files = [(entry, _tar_header(entry, folder, mtime)) for entry in entries]
    length = sum(len(header) + _padded(entry.size_bytes) for entry, header in files) + 2 * BLOCK
    return StreamingResponse(
        _tar(storage, prefix, files),
        media_type="application/x-tar",
        headers={
            "content-length": str(length),
            "content-disposition": f'attachment; filename="{folder}.tar"',
        },
    )


def _tar_header(entry: ManifestEntry, folder: str, mtime: int) -> bytes:
    info = tarfile.TarInfo(f"{folder}/{entry.path}")
    info.size, info.mtime, info.mode = entry.size_bytes, mtime, 0o644
    # USTAR would end at 8 GiB and at names of 100 bytes.
    return info.tobuf(tarfile.GNU_FORMAT)


def _tar(
    storage: Storage, prefix: str, files: list[tuple[ManifestEntry, bytes]]
) -> Iterator[bytes]:
    for entry, header in files:
        yield header
        yield from storage.read(f"{prefix}/{entry.path}")
        yield b"\0" * (_padded(entry.size_bytes) - entry.size_bytes)
    yield b"\0" * (2 * BLOCK)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _matches(header: str, tag: str) -> bool:
    tags = {item.strip().removeprefix("W/").strip('"') for item in header.split(",")}
    return "*" in tags or tag in tags


def _wanted_span(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """Start and end of the range that is asked for, empty beyond the end; None for the whole.

    Several ranges, other units and what nobody understands are answered with the whole.
    """
    found = _ONE_RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = found.groups()
    if not first:
        return (max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return (int(first), min(size, int(last) + 1) if last else size)


def _unsatisfiable(size: int) -> Response:
    response = envelope(416, f"The file ends at byte {size}.", code="range_not_satisfiable")
    response.headers["content-range"] = f"bytes */{size}"
    return response
