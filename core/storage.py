"""Bytes by key: uploads and checkpoints, in a local folder or in S3-compatible object storage.

Keys are relative paths made by our own code. A key is visible only when all its bytes are there.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from core.errors import NotFound, SettingsError, TuneyardError, Unavailable

CHUNK_BYTES = 1024 * 1024
PART_BYTES = 16 * 1024 * 1024
DELETE_BATCH = 500
CONNECT_SECONDS = 5
REQUEST_SECONDS = 60
RETRY_SECONDS = 10


class CorruptObject(TuneyardError):
    """Stored bytes do not match their hash."""

    code = "corrupt_object"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What was stored: `size` in bytes, SHA-256 as hex."""

    key: str
    size: int
    sha256: str


def open_storage(
    url: str,
    *,
    s3_endpoint: str | None = None,
    s3_access_key: str | None = None,
    s3_secret_key: str | None = None,
    s3_region: str | None = None,
) -> "Storage":
    """Open `file:///folder`, an absolute path, or `s3://bucket/prefix`; SettingsError otherwise."""
    parts = urlsplit(url)
    if parts.scheme in ("", "file") and parts.path.startswith("/") and not parts.netloc:
        return Storage(_local_store(Path(unquote(parts.path))), url=f"file://{parts.path}")
    if parts.scheme != "s3" or not parts.netloc:
        raise SettingsError(
            f"STORAGE_URL: {url!r} is neither file:///folder nor s3://bucket/prefix.",
            param="STORAGE_URL",
        )
    store = S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        endpoint=s3_endpoint,
        access_key_id=s3_access_key,
        secret_access_key=s3_secret_key,
        region=s3_region or "us-east-1",
        virtual_hosted_style_request=s3_endpoint is None,
        client_options={
            "allow_http": (s3_endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=REQUEST_SECONDS),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
    )
    return Storage(store, url=url.rstrip("/"))


class Storage:
    """Objects by key. Unavailable when the storage is away, NotFound when it has no such key."""

    def __init__(self, store: LocalStore | S3Store, *, url: str):
        self._store = store
        self._url = url
        prefix = store.prefix
        self._root = Path(str(prefix)) if isinstance(store, LocalStore) else None

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> StoredObject:
        """Store an object in constant memory. If `chunks` raises, nothing becomes visible."""
        digest, size = hashlib.sha256(), 0

        def hashed() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        self._put(_checked(key), hashed())
        return StoredObject(key, size, digest.hexdigest())

    def put_file(self, key: str, path: Path) -> StoredObject:
        """Store the content of a file; the hash is that of the bytes that were sent."""
        with path.open("rb") as file:
            return self.put_stream(key, _chunks(file))

    def size(self, key: str) -> int:
        """Size of an object in bytes."""
        with _translated(key):
            return int(obstore.head(self._store, _checked(key))["size"])

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        try:
            self.size(key)
        except NotFound:
            return False
        return True

    def read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to but not including `end`, in chunks."""
        size = self.size(key)
        end = size if end is None else min(end, size)
        if start >= end:
            return
        options: obstore.GetOptions = {"range": (start, end)}
        with _translated(key):
            result = obstore.get(self._store, key, options=options)
            for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    def read_bytes(self, key: str) -> bytes:
        """A small object as a whole."""
        return b"".join(self.read(key))

    def fetch(self, key: str, path: Path, *, sha256: str) -> None:
        """Bring an object to `path`, which appears only when its bytes match the hash."""
        staging = path.with_name(f"{path.name}.{os.getpid()}.partial")
        digest = hashlib.sha256()
        try:
            with staging.open("wb") as file:
                for chunk in self.read(key):
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != sha256:
                raise CorruptObject(f"{key} does not match its hash.")
            staging.rename(path)
        finally:
            staging.unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Key and size of all objects below a prefix."""
        with _translated(prefix):
            for batch in obstore.list(self._store, f"{_checked(prefix)}/"):
                for entry in batch:
                    yield entry["path"], int(entry["size"])

    def delete(self, key: str) -> None:
        """Delete an object; no error when there is none."""
        try:
            with _translated(key):
                obstore.delete(self._store, _checked(key))
        except NotFound:
            return

    def delete_prefix(self, prefix: str) -> None:
        """Delete everything below a prefix."""
        root = self.local_path(prefix)
        if root is not None:
            shutil.rmtree(root, ignore_errors=True)
            return
        keys = [key for key, _ in self.list(prefix)]
        for first in range(0, len(keys), DELETE_BATCH):
            with _translated(prefix):
                obstore.delete(self._store, keys[first : first + DELETE_BATCH])

    def local_path(self, key: str) -> Path | None:
        """Where the object is on this machine; None for object storage."""
        return self._root / _checked(key) if self._root is not None else None

    def signed_url(self, key: str, seconds: float) -> str | None:
        """A URL that anybody may read the object at for a while; None for a local folder."""
        if not isinstance(self._store, S3Store):
            return None
        with _translated(key):
            return obstore.sign(self._store, "GET", _checked(key), timedelta(seconds=seconds))

    def location(self, key: str) -> str:
        """Where the object is, for people."""
        return f"{self._url}/{_checked(key)}"

    def free_bytes(self) -> int | None:
        """Free space; None where there is no telling."""
        return shutil.disk_usage(self._root).free if self._root is not None else None

    def _put(self, key: str, chunks: Iterator[bytes]) -> None:
        with _translated(key):
            obstore.put(self._store, key, chunks, chunk_size=PART_BYTES)
        path = self.local_path(key)
        if path is not None:
            # A row in the database will speak of these bytes; a power cut must not undo them.
            _sync(path)
            _sync(path.parent)


def _local_store(folder: Path) -> LocalStore:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"STORAGE_URL: {folder} cannot be made: {error.strerror}.", param="STORAGE_URL"
        ) from error
    return LocalStore(folder)


def _checked(key: str) -> str:
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in key or "\0" in key:
        raise ValueError(f"bad storage key: {key!r}")
    return key


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK_BYTES), b"")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise NotFound(f"Nothing is stored under {key}.") from error
    except BaseError as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise Unavailable(f"The storage does not answer: {reason}") from error
