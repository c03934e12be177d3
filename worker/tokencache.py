"""Tokens of data files that this machine made before, so that no later job makes them again."""

import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.dataset.encode import TOKEN_ARGUMENTS
from core.models import Job

_, ABOUT = WHOLE = ("tokens.arrow", "about.json")
"""What a child writes; with the second one the tokens are whole."""
PACKAGES = ("tokenizers", "transformers", "tuneyard")
"""Programs that decide what the tokens are."""
NOT_OF_TOKENIZERS = frozenset({".safetensors", ".md", ".png"})
DESCRIPTIONS = ("state.json", "dataset_info.json")
"""What `Dataset.save_to_disk` writes about the rows, with a fingerprint of them."""


class TokenCache:
    """Folders of tokens by name; those that were not used for longest go when there are too many.

    A child writes them in its own folder, and they are never shared between projects: what a
    hostile model could put there reaches none but its owner.
    """

    def __init__(self, folder: Path, *, limit_bytes: int):
        self._folder = folder
        self._limit_bytes = limit_bytes

    def lend(self, key: str, target: Path) -> None:
        """Put the tokens of this name below `target`, if they are there; they count as used now.

        Libraries write beside what they read, so that a child needs a folder of its own.
        """
        found = self._folder / key
        if (target / key).exists():
            return
        try:
            os.utime(found)
            shutil.copytree(found, target / key, copy_function=_link)
        except (FileNotFoundError, shutil.Error):
            # Another process of this machine makes room at the same time.
            shutil.rmtree(target / key, ignore_errors=True)

    def keep(self, made: Path) -> None:
        """Keep tokens under the name of the folder that holds them, which may go on being used."""
        if not (made / ABOUT).is_file() or (self._folder / made.name).exists():
            return
        staging = self._folder / f"{made.name}.{os.getpid()}.partial"
        shutil.rmtree(staging, ignore_errors=True)
        # Only what is whole: a library's own files may stand beside it.
        staging.mkdir(parents=True)
        for name in WHOLE:
            _link(str(made / name), str(staging / name))
        try:
            staging.rename(self._folder / made.name)
        except OSError:
            # Another process of this machine was first.
            shutil.rmtree(staging, ignore_errors=True)
        self._make_room()

    def _make_room(self) -> None:
        folders = [entry for entry in self._folder.iterdir() if entry.suffix != ".partial"]
        folders.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
        used = 0
        for folder in folders:
            used += sum(file.stat().st_size for file in folder.iterdir())
            if used > self._limit_bytes:
                shutil.rmtree(folder, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """The same bytes under another name, which stay when the first one goes."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        # Not every file system has links.
        shutil.copyfile(source, target)


def tokens_key(job: Job, source: Mapping[str, Any], model: Path, *, digest: str | None) -> str:
    """A name for the tokens of these rows by this model's tokenizer, as this job reads them.

    `digest` is the SHA-256 of a file; a saved dataset is named by its own description.
    """
    path = Path(source["path"])
    saved = [(path / name).read_text() for name in DESCRIPTIONS] if digest is None else []
    about = {
        "project": job.project_id,
        "rows": [source["kind"], source.get("compression"), digest, saved],
        "tokenizer": _tokenizer_files(model),
        "reading": [job.spec.get(name) for name in ("template", "shape", "chat_template")],
        "training": {name: job.training.get(name) for name in TOKEN_ARGUMENTS},
        "programs": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _tokenizer_files(model: Path) -> dict[str, str]:
    """Hashes of what a tokenizer is read from, which is all small files of a model."""
    found = {}
    for file in sorted(model.iterdir()):
        if file.is_file() and file.suffix not in NOT_OF_TOKENIZERS:
            with file.open("rb") as opened:
                found[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found
