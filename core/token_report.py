"""What a model's tokenizer makes of a job's training file, before there is a job."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy.orm import Session

from core.arguments import check_training
from core.base_model import ModelName, find_model_checkpoint, local_folder, parse_model
from core.checkpoints import entries
from core.dataset import FileReport
from core.dataset.token_check import CHAT_TEMPLATE, CONFIG, SPECIAL_TOKENS, TOKENIZER
from core.errors import (
    Invalid,
    InvalidArgument,
    InvalidFile,
    NotFound,
    TooLarge,
    TuneyardError,
    Unavailable,
)
from core.files import get_file
from core.hub_tokenizer import HubTokenizers
from core.isolated import Exhausted, Limits, run_isolated
from core.models import Checkpoint, File
from core.plan.reader import FactsReader
from core.plan.settings import check_length
from core.spec import JobSpec
from core.storage import Storage
from core.submission import EFFECTIVE_BATCH

LIMITS = Limits(seconds=120, memory_bytes=4 * 1024**3)
MAX_ROWS = 20_000
"""More rows are sampled: so many say all of them within a percent or so."""


@dataclass(frozen=True, slots=True)
class Question:
    """A file and a model, found in the database, and checked arguments."""

    file: File
    model: Path | Checkpoint | ModelName
    """A folder here, a checkpoint in storage, or a model of the Hub."""
    spec: JobSpec
    training: Mapping[str, Any]


def prepare_question(spec: JobSpec, reader: FactsReader) -> None:
    """Fetch what a length is compared with; a Hub that is away will be told when it is needed."""
    if "max_length" in spec.training:
        with suppress(Invalid, NotFound, Unavailable):
            reader.prefetch(spec.model)


def find_question(
    session: Session, spec: JobSpec, model_roots: Sequence[Path], reader: FactsReader
) -> Question:
    """Look up what a request names; errors name its fields."""
    if spec.training_file is None:
        raise InvalidArgument('"training_file" is required.', param="training_file")
    file = get_file(session, spec.training_file, param="training_file")
    if file.report is None:
        raise InvalidArgument(
            f'A file of the purpose "{file.purpose}" is not trained on.', param="training_file"
        )
    given = {name: value for name, value in spec.training.items() if name != EFFECTIVE_BATCH}
    training = check_training(given).values
    model = parse_model(spec.model)
    found: Path | Checkpoint | ModelName = model
    if model.kind == "local":
        found = local_folder(spec.model, model_roots)
    if model.kind == "job":
        found = find_model_checkpoint(session, model)
    _check_length(session, spec.model, training, reader)
    return Question(file, found, spec, training)


def _check_length(
    session: Session, model: str, training: Mapping[str, Any], reader: FactsReader
) -> None:
    try:
        facts = reader.read(session, model)
    except TuneyardError:
        # What cannot be planned for has tokens all the same.
        return
    check_length(facts, training.get("max_length"))


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
            "training": {n: value for n, value in question.training.items() if value != "auto"},
        }
        try:
            reads = [path, folder, *_linked(folder)]
            return run_isolated("core.dataset.token_check", request, LIMITS, reads=reads)
        except InvalidFile as error:
            raise InvalidFile(error.message, param="training_file", **error.details) from error
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
