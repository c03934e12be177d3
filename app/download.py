"""Downloads: ranges, entity tags by content, archives on the fly. No name reaches a file system."""

import tarfile
from collections.abc import Iterator
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import FileResponse, StreamingResponse

from core.checkpoints import ManifestEntry
from core.errors import NotFound
from core.storage import Storage

BLOCK = tarfile.BLOCKSIZE


def file_response(
    request: Request, storage: Storage, *, key: str, size: int, sha256: str, filename: str
) -> Response:
    """One stored object: GET and HEAD, Range, If-Range and If-None-Match by its hash."""
    headers = {
        "etag": f'"{sha256}"',
        "accept-ranges": "bytes",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "cache-control": "private, no-cache",
    }
    if _matches(request.headers.get("if-none-match", ""), sha256):
        return Response(status_code=304, headers=headers)
    path = storage.local_path(key)
    if path is not None:
        if not path.is_file():
            raise NotFound("The bytes of this file are gone from storage.")
        return FileResponse(path, media_type="application/octet-stream", headers=headers)
    return _remote_response(request, storage, key=key, size=size, headers=headers)


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


def _matches(header: str, sha256: str) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return "*" in tags or sha256 in tags


def _remote_response(
    request: Request, storage: Storage, *, key: str, size: int, headers: dict[str, str]
) -> Response:
    """The same for object storage, where no file system does the ranges."""
    wanted = request.headers.get("range")
    if_range = request.headers.get("if-range")
    if wanted is not None and if_range is not None and if_range != headers["etag"]:
        wanted = None
    span = _parse_range(wanted, size) if wanted else (0, size)
    if span is None:
        return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
    start, end = span
    headers = headers | {"content-length": str(end - start)}
    status = 200
    if wanted and (start, end) != (0, size):
        status = 206
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(
        storage.read(key, start=start, end=end),
        status,
        media_type="application/octet-stream",
        headers=headers,
    )


def _parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Start and end of one byte range; the whole for forms not understood; None beyond the end."""
    unit, _, spec = header.partition("=")
    first, dash, last = spec.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or not (first + last).isdigit():
        return (0, size)
    if not first:
        return (max(0, size - int(last)), size) if int(last) and size else None
    start = int(first)
    end = min(size, int(last) + 1) if last else size
    return (start, end) if start < end else None
