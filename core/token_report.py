"""What a model's tokenizer makes of a job's training file, before there is a job."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy.orm import Session

from core.base_model import ModelName, find_model_checkpoint, local_folder, parse_model
from core.checkpoints import entries
from core.dataset import FileReport
from core.dataset.token_check import CHAT_TEMPLATE, CONFIG, SPECIAL_TOKENS, TOKENIZER
from core.errors import InvalidArgument, TooLarge
from core.files import get_file
from core.hub_tokenizer import HubTokenizers
from core.isolated import Exhausted, Limits, run_isolated
from core.models import Checkpoint, File
from core.spec import JobSpec
from core.storage import Storage

LIMITS = Limits(seconds=120, memory_bytes=4 * 1024**3)
MAX_ROWS = 20_000
"""More rows are sampled: so many say all of them within a percent or so."""


@dataclass(frozen=True, slots=True)
class Question:
    """A file and a model, found in the database."""

    file: File
    model: Path | Checkpoint | ModelName
    """A folder here, a checkpoint in storage, or a model of the Hub."""
    spec: JobSpec


def find_question(session: Session, spec: JobSpec, model_roots: Sequence[Path]) -> Question:
    """Look up what a request names; errors name its fields."""
    if spec.training_file is None:
        raise InvalidArgument('"training_file" is required.', param="training_file")
    file = get_file(session, spec.training_file, param="training_file")
    if file.report is None:
        raise InvalidArgument(
            f'A file of the purpose "{file.purpose}" is not trained on.', param="training_file"
        )
    model = parse_model(spec.model)
    if model.kind == "local":
        return Question(file, local_folder(spec.model, model_roots), spec)
    if model.kind == "job":
        return Question(file, find_model_checkpoint(session, model), spec)
    return Question(file, model, spec)


def token_report(
    question: Question, storage: Storage, hub_tokenizers: HubTokenizers
) -> dict[str, Any]:
    """The report, made in a process of its own. InvalidFile names the row that cannot be used.

    May use the network: call it outside of a transaction.
    """
    file, spec = question.file, question.spec
    found = FileReport.from_dict(file.report or {})
    with (
        _folder(question.model, storage, hub_tokenizers) as folder,
        _local(file, storage) as path,
    ):
        request = {
            "path": str(path),
            "format": found.format,
            "compression": found.compression,
            "rows": found.rows,
            "max_rows": MAX_ROWS,
            "model": str(folder),
            "chat_template": spec.chat_template,
            "template": spec.template,
            "shape": spec.shape,
            "training": {name: value for name, value in spec.training.items() if value != "auto"},
        }
        try:
            reads = [path, folder, *_linked(folder)]
            return run_isolated("core.dataset.token_check", request, LIMITS, reads=reads)
        except Exhausted as error:
            raise TooLarge(f"Counting these tokens takes too much {error.what}.") from error


def _linked(folder: Path) -> list[Path]:
    """What the files of a folder really are: a cache of the Hub is full of links."""
    return [file for file in folder.iterdir() if file.is_symlink()]


@contextmanager
def _folder(
    model: Path | Checkpoint | ModelName, storage: Storage, hub_tokenizers: HubTokenizers
) -> Iterator[Path]:
    """A folder with the tokenizer."""
    if isinstance(model, Path):
        yield model
        return
    if isinstance(model, ModelName):
        with hub_tokenizers.lent(model.name) as lent:
            yield lent
        return
    with TemporaryDirectory(prefix="tuneyard-") as name:
        for entry in entries(model, "weights"):
            if entry.path in (TOKENIZER, CONFIG, SPECIAL_TOKENS, CHAT_TEMPLATE):
                path = Path(name) / entry.path
                storage.fetch(f"{model.prefix}/{entry.path}", path, sha256=entry.sha256)
        yield Path(name)


@contextmanager
def _local(file: File, storage: Storage) -> Iterator[Path]:
    path = storage.local_path(file.storage_key)
    if path is not None:
        yield path
        return
    with TemporaryDirectory(prefix="tuneyard-") as name:
        path = Path(name) / "file"
        storage.fetch(file.storage_key, path, sha256=file.sha256)
        yield path
