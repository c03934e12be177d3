"""Bytes by key: uploads and checkpoints, in a local folder or in S3-compatible object storage.

Keys are relative paths made by our own code. A key is visible only when all its bytes are there.
"""

import hashlib
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, S3Store

from core.durable import make_durable, remove_folder
from core.errors import (
    NotFound,
    SettingsError,
    StorageForbidden,
    StorageFull,
    TuneyardError,
    Unavailable,
)
from core.fingerprint import PART_BYTES, Fingerprint
from core.full import is_full_in_words

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Credential  # obstore has them for type checkers only

CHUNK_BYTES = 1024 * 1024
PARTS_AT_ONCE = 4
DELETE_BATCH = 500
CONNECT_SECONDS = 5
SILENCE_SECONDS = 60
REQUEST_SECONDS = 24 * 3600
RETRY_SECONDS = 10
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]+")
STAGED = re.compile(r"#[0-9]+$")
"""How the local store ends the names of what is not complete yet; no key may end so."""


class CorruptObject(TuneyardError):
    """Stored bytes do not match their hash."""

    code = "corrupt_object"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What was stored: `size` in bytes, SHA-256 as hex."""

    key: str
    size: int
    sha256: str
    tag: str | None = None
    """What object storage is to call this content; null of a local folder."""


def open_storage(
    url: str,
    *,
    s3_endpoint: str | None = None,
    s3_access_key: str | None = None,
    s3_secret_key: str | None = None,
    s3_region: str | None = None,
) -> "Storage":
    """Open `file:///folder`, an absolute path, or `s3://bucket/prefix`; SettingsError otherwise.

    Without keys, S3 takes those that the machine has: environment, web identity or instance.
    """
    if url.startswith(("/", "file:///")):
        folder = Path(url if url.startswith("/") else unquote(url.removeprefix("file://")))
        return Storage(_local_store(folder), url=folder.as_uri())
    parts = urlsplit(url)
    if parts.scheme != "s3" or not BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        # The value is not repeated: people write keys into it.
        raise SettingsError(
            "STORAGE_URL: expected file:///folder or s3://bucket/prefix.", param="STORAGE_URL"
        )
    config = _s3_config(s3_endpoint, s3_region)
    store = S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        config=config,
        client_options={
            "allow_http": (s3_endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            # Silence tells that a server is away. A limit on the whole request would break off
            # every download that takes longer, however well it goes.
            "read_timeout": timedelta(seconds=SILENCE_SECONDS),
            "timeout": timedelta(seconds=REQUEST_SECONDS),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        credential_provider=_credential_provider(s3_access_key, s3_secret_key),
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
        seen = Fingerprint(tagged=self._root is None)

        def watched() -> Iterator[bytes]:
            for chunk in chunks:
                seen.feed(chunk)
                yield chunk

        self._put(_checked(key), watched())
        return StoredObject(key, seen.size, seen.sha256, seen.finish())

    def put_file(self, key: str, path: Path) -> StoredObject:
        """Store the content of a file; the hash is that of the bytes that were sent."""
        with path.open("rb") as file:
            return self.put_stream(key, _chunks(file))

    def verify(self, stored: StoredObject) -> None:
        """Look again at what was stored; CorruptObject unless it is what was sent.

        Object storage that tags a content by its MD5s vouches for it; else all is read back.
        """
        with _translated(stored.key):
            found = obstore.head(self._store, _checked(stored.key))
        if int(found["size"]) == stored.size:
            if stored.tag is not None and (found["e_tag"] or "").strip('"') == stored.tag:
                return
            digest = hashlib.sha256()
            for chunk in self.read(stored.key):
                digest.update(chunk)
            if digest.hexdigest() == stored.sha256:
                return
        raise CorruptObject(f"{stored.key} is not what was stored.")

    def check_access(self) -> None:
        """Write and delete a small object; StorageForbidden with the wrong keys."""
        key = f"access-check/{secrets.token_hex(8)}"
        self.put_stream(key, [b"tuneyard"])
        self.delete(key)

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
        """The bytes from `start` up to but not including `end`, in chunks of about 1 MiB.

        The object is opened at once: NotFound comes from this call, not from the first chunk.
        """
        options: obstore.GetOptions = {}
        if start or end is not None:
            size = self.size(key)
            end = size if end is None else min(end, size)
            if start >= end:
                return iter(())
            options["range"] = (start, end)
        with _translated(key):
            result = obstore.get(self._store, _checked(key), options=options)
        return _stream(result, key)

    def read_bytes(self, key: str) -> bytes:
        """A small object as a whole."""
        return b"".join(self.read(key))

    def fetch(self, key: str, path: Path, *, sha256: str) -> None:
        """Bring an object to `path`, which appears only when its bytes match the hash."""
        staging = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
        digest = hashlib.sha256()
        try:
            with staging.open("wb") as file:
                for chunk in self.read(key):
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != sha256:
                raise CorruptObject(f"{key} does not match its hash.")
            staging.replace(path)
        finally:
            staging.unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Key and size of all objects below a prefix."""
        with _translated(prefix):
            for batch in obstore.list(self._store, f"{_checked(prefix)}/"):
                for entry in batch:
                    yield entry["path"], int(entry["size"])

    def list_older(self, prefix: str, before: datetime) -> Iterator[str]:
        """The keys below a prefix whose objects were not written since then."""
        with _translated(prefix):
            for batch in obstore.list(self._store, f"{_checked(prefix)}/"):
                for entry in batch:
                    if entry["last_modified"] < before:
                        yield entry["path"]

    def remove_unfinished(self, before: datetime) -> int:
        """Remove what killed uploads left in a local folder; returns how many files.

        Object storage has rules of its own for parts that nobody completes.
        """
        if self._root is None:
            return 0
        old = [
            path
            for path in self._root.rglob("*#*")
            if STAGED.search(path.name) and path.stat().st_mtime < before.timestamp()
        ]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

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
            # Not by listing: the folders go too, and what a killed upload left.
            remove_folder(root)
            return
        keys = [key for key, _ in self.list(prefix)]
        for first in range(0, len(keys), DELETE_BATCH):
            with _translated(prefix):
                obstore.delete(self._store, keys[first : first + DELETE_BATCH])

    def local_path(self, key: str) -> Path | None:
        """Where the object is on this machine; None for object storage."""
        key = _checked(key)
        return self._root / key if self._root is not None else None

    def signed_url(self, key: str, seconds: float) -> str | None:
        """A URL that anybody may read the object at for a while; None for a local folder."""
        key = _checked(key)
        if not isinstance(self._store, S3Store):
            return None
        with _translated(key):
            return obstore.sign(self._store, "GET", key, timedelta(seconds=seconds))

    def location(self, key: str) -> str:
        """Where the object is, for people."""
        path = self.local_path(key)
        return path.as_uri() if path is not None else f"{self._url}/{_checked(key)}"

    def free_bytes(self) -> int | None:
        """Free space; None where there is no telling."""
        return shutil.disk_usage(self._root).free if self._root is not None else None

    def total_bytes(self) -> int | None:
        """Size of the disk; None where there is no telling."""
        return shutil.disk_usage(self._root).total if self._root is not None else None

    def _put(self, key: str, chunks: Iterator[bytes]) -> None:
        with _translated(key):
            try:
                obstore.put(
                    self._store, key, chunks, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
                )
            except FileNotFoundError as error:
                raise Unavailable(f"The storage {self._url} does not exist.") from error
        if self._root is not None:
            make_durable(self._root / key, self._root)


def _s3_config(endpoint: str | None, region: str | None) -> "S3Config":
    config: S3Config = {"region": region or "us-east-1", "skip_signature": False}
    if endpoint is None:
        return config | {"virtual_hosted_style_request": True}
    if not endpoint.startswith(("http://", "https://")):
        raise SettingsError(
            "S3_ENDPOINT_URL: expected http://host:port or https://host.", param="S3_ENDPOINT_URL"
        )
    # Of the two names for an endpoint, the one that no environment variable overrules.
    return config | {"aws_endpoint_url_s3": endpoint, "virtual_hosted_style_request": False}


def _credential_provider(
    access_key: str | None, secret_key: str | None
) -> "Callable[[], S3Credential] | None":
    if access_key is None and secret_key is None:
        return None
    if access_key is None or secret_key is None:
        name = "S3_ACCESS_KEY_ID" if access_key is None else "S3_SECRET_ACCESS_KEY"
        raise SettingsError(f"{name}: missing, while the other key is set.", param=name)
    credential: S3Credential = {
        "access_key_id": access_key,
        "secret_access_key": secret_key,
        "expires_at": None,
    }
    # Given as options, the keys would be mixed with an AWS_SESSION_TOKEN of the environment.
    return lambda: credential


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
    wrong = any(part in ("", ".", "..") for part in parts) or "\\" in key or "\0" in key
    if wrong or STAGED.search(key):
        raise ValueError(f"bad storage key: {key!r}")
    return key


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK_BYTES), b"")


def _stream(result: "obstore.GetResult", key: str) -> Iterator[bytes]:
    with _translated(key):
        for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(chunk)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"Nothing is stored under {key}.") from error
    except BaseError as error:
        reason = str(error).strip().partition("\n")[0][:300]
        if is_full_in_words(reason) or "507 Insufficient Storage" in reason:
            raise StorageFull(f"The storage is full: {reason}") from error
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or (
            # Listing has no error of its own for it.
            "403 Forbidden" in reason
        ):
            raise StorageForbidden(
                f"The storage refuses the keys of this server: {reason}"
            ) from error
        raise Unavailable(f"The storage cannot be used: {reason}") from error
