"""A revision of a repository: its files, their hashes, and the folders between them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from core.errors import EntryNotFound
from core.storage import Storage

_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file: `path` in the repository, `key` in the storage of its snapshot."""

    path: str
    size: int
    key: str
    sha256: str | None
    """None where only git's own hash is known, as for small files that came from the Hub."""
    oid: str
    """Git's SHA-1: of the content, or of the LFS pointer when there is a SHA-256."""

    @property
    def etag(self) -> str:
        """What clients name the content by in their cache."""
        return self.sha256 or self.oid

    @property
    def pointer_size(self) -> int:
        """Size of the LFS pointer, in bytes."""
        return len(_POINTER.format(sha256=self.sha256, size=self.size))


@dataclass(frozen=True, slots=True)
class Commit:
    """One immutable state of a repository, without its files."""

    id: str
    title: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A commit with its files, sorted by path, and the storage that holds their bytes."""

    commit: Commit
    files: tuple[HubFile, ...]
    storage: Storage

    def file(self, path: str) -> HubFile:
        """The file at `path`; looked up by name, never joined to a folder."""
        found = next((file for file in self.files if file.path == path), None)
        if found is None:
            raise self._missing(path)
        return found

    def below(self, folder: str, *, recursive: bool) -> list[HubFile | str]:
        """The files and the names of the folders in `folder`; EntryNotFound if there is none."""
        prefix = f"{folder}/" if folder else ""
        files = [file for file in self.files if file.path.startswith(prefix)]
        if folder and not files:
            raise self._missing(folder)
        found: dict[str, HubFile | str] = {}
        for file in files:
            parts = file.path.removeprefix(prefix).split("/")
            depth = len(parts) if recursive else min(2, len(parts))
            for length in range(1, depth):
                name = prefix + "/".join(parts[:length])
                found[name] = name
            if recursive or len(parts) == 1:
                found[file.path] = file
        return [found[name] for name in sorted(found)]

    def at(self, paths: Iterable[str]) -> list[HubFile | str]:
        """What there is at these paths, in their order; the others are left out."""
        files = {file.path: file for file in self.files}
        folders = {
            path[:end] for path in files for end in range(len(path)) if path[end : end + 1] == "/"
        }
        named = (path.strip("/") for path in paths)
        return [files.get(path, path) for path in named if path in files or path in folders]

    def _missing(self, path: str) -> EntryNotFound:
        message = f"There is no {path[:200]!r} at {self.commit.id}."
        return EntryNotFound(message, param="path", commit=self.commit.id)


def large_file(path: str, *, size: int, key: str, sha256: str) -> HubFile:
    """A file known by its SHA-256, which is what Git LFS goes by."""
    pointer = _POINTER.format(sha256=sha256, size=size).encode()
    return HubFile(path, size, key, sha256, git_blob(pointer))


def git_blob(content: bytes) -> str:
    """The name that git gives to a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def commit_id(name: str, files: Iterable[tuple[str, str]]) -> str:
    """The commit of a repository with these paths and hashes: the same for ever, 40 hex digits."""
    digest = hashlib.sha1(name.encode(), usedforsecurity=False)
    for path, content in sorted(files):
        digest.update(f"\0{path}\0{content}".encode())
    return digest.hexdigest()
