"""Base models: the folders of MODEL_ROOTS, and what a worker on this machine has fetched."""

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from core.base_model import local_folder
from core.errors import InvalidModel, ModelNotFound
from core.hub.hashes import HashIndex
from core.hub.repository import About, FixedRepository
from core.hub.tree import Commit, HubFile, Snapshot, commit_id, large_file
from core.storage import open_storage

SERVED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.md", "LICENSE*")
"""Weights as safetensors, and what is read with them. No pickles, and nothing else of a folder."""

_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def local_repository(
    name: str, model_roots: Sequence[Path], hashes: HashIndex
) -> FixedRepository | None:
    """The model folder `local/<folder>`, or `<a>/<b>` below a root under that name."""
    try:
        folder = local_folder(f"local/{name.removeprefix('local/')}", model_roots)
    except (ModelNotFound, InvalidModel):
        return None
    # `local_folder` has looked at the links of the folder itself, but not further down.
    paths = [path for path in _walk(folder) if path.is_file() and not _is_link_below(path, folder)]
    named = zip(paths, hashes.sha256(paths), strict=True)
    storage = open_storage(folder.as_uri())
    files = []
    for path, sha256 in named:
        relative = path.relative_to(folder).as_posix()
        size = path.stat().st_size
        files.append(large_file(relative, size=size, key=relative, sha256=sha256))
    newest = max(path.stat().st_mtime for path in paths)
    created_at = datetime.fromtimestamp(newest, UTC)
    commit = Commit(commit_id(name, ((f.path, f.etag) for f in files)), "model folder", created_at)
    about = About(name, created_at, "transformers")
    return FixedRepository(about, Snapshot(commit, tuple(files), storage))


def cached_repository(name: str, cache: Path) -> FixedRepository | None:
    """A model of the Hub as the Hub's own client keeps it: named by content, so already hashed."""
    root = cache / f"models--{name.replace('/', '--')}"
    main = root / "refs" / "main"
    commit = main.read_text(encoding="ascii").strip() if main.is_file() else ""
    folder = root / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not folder.is_dir():
        return None
    files = tuple(_cached_files(folder))
    if not any(file.path == "config.json" for file in files):
        return None
    created_at = datetime.fromtimestamp(main.stat().st_mtime, UTC)
    snapshot = Snapshot(
        Commit(commit, "from the Hub", created_at), files, open_storage((root / "blobs").as_uri())
    )
    return FixedRepository(About(name, created_at, "transformers"), snapshot)


def _cached_files(folder: Path) -> Iterator[HubFile]:
    for path in _walk(folder):
        blob = path.resolve()
        name = path.relative_to(folder).as_posix()
        if not blob.is_file() or blob.parent.name != "blobs" or not _ETAG.fullmatch(blob.name):
            continue
        size = blob.stat().st_size
        if len(blob.name) == 64:
            yield large_file(name, size=size, key=blob.name, sha256=blob.name)
        else:
            yield HubFile(name, size, blob.name, None, blob.name)


def _is_link_below(path: Path, folder: Path) -> bool:
    return path.parent != folder and path.is_symlink()


def _walk(folder: Path) -> Iterator[Path]:
    """What of a model folder is served, sorted; at most one level of folders."""
    found = []
    for parent, folders, names in os.walk(folder):
        if parent != str(folder):
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and any(fnmatch.fnmatch(name, p) for p in SERVED)
        ]
    yield from sorted(found)
