"""What `model` in a request may name: a Hub model, a folder of this server, or an earlier job."""

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session

from core.checkpoints import get_checkpoint, list_checkpoints
from core.db import project_of
from core.errors import (
    CheckpointNotFound,
    InvalidArgument,
    InvalidModel,
    JobNotFound,
    ModelNotFound,
)
from core.model_check import check_model
from core.models import Checkpoint
from core.permissions import get_usable_job

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"{_PART}(/{_PART})?")
_LOCAL_ID = re.compile(rf"local(/{_PART}){{1,4}}")
_JOB_ID = re.compile(r"jobs/(ftjob-[0-9a-f]{24})(?:\.step-([1-9][0-9]{0,9}))?")

HOW_TO_NAME = (
    "Name a Hub model (facebook/opt-350m), a folder under MODEL_ROOTS (local/my-model), "
    "or an earlier job (jobs/<job id>, jobs/<job id>.step-500)."
)


@dataclass(frozen=True, slots=True)
class ModelName:
    """A syntactically right model name, taken apart."""

    kind: Literal["hub", "local", "job"]
    name: str
    job_id: str | None = None
    step: int | None = None


def parse_model(name: str) -> ModelName:
    """Take a model name apart; InvalidArgument when it is none."""
    job = _JOB_ID.fullmatch(name)
    if job is not None:
        return ModelName("job", name, job[1], int(job[2]) if job[2] else None)
    if ".." in name or "--" in name:
        raise _not_a_name(name)
    if _LOCAL_ID.fullmatch(name):
        return ModelName("local", name)
    if name.startswith(("local/", "jobs/")) or not _HUB_ID.fullmatch(name):
        raise _not_a_name(name)
    return ModelName("hub", name)


def pin_model(
    session: Session,
    name: str,
    *,
    model_roots: Sequence[Path],
    project_id: str | None = None,
) -> str:
    """The name that will still mean the same model when the job runs.

    A job is pinned to its newest checkpoint; a local folder must exist. ModelNotFound otherwise;
    InvalidModel for a folder that would do harm, or that cannot be loaded.
    Whether the Hub has a model turns out when a worker fetches it.
    """
    project_id = project_id or project_of(session)
    model = parse_model(name)
    if model.kind == "local" and model_roots:
        check_model(name, local_folder(name, model_roots))
    if model.kind == "job":
        checkpoint = find_model_checkpoint(session, model, project_id=project_id)
        return f"jobs/{checkpoint.job_id}.step-{checkpoint.step}"
    return name


def find_model_checkpoint(
    session: Session, model: ModelName, *, project_id: str | None = None
) -> Checkpoint:
    """The checkpoint that a `jobs/...` name means: that of its step, else the newest."""
    project_id = project_id or project_of(session)
    assert model.job_id is not None
    try:
        job = get_usable_job(session, model.job_id, model.step, project_id=project_id)
    except JobNotFound as error:
        raise ModelNotFound(f"No such model: {model.name}", param="model") from error
    if model.step is None:
        newest = list_checkpoints(session, job.id, limit=1)
        if newest:
            return newest[0]
        raise ModelNotFound(f"Job {job.id} has no checkpoint yet.", param="model")
    try:
        return get_checkpoint(session, job.id, model.step)
    except CheckpointNotFound as error:
        raise ModelNotFound(error.message, param="model") from error


def local_folder(name: str, model_roots: Sequence[Path]) -> Path:
    """The folder of `local/<path>`: the first root that has it, never outside of that root.

    InvalidModel if a file of it is a link that leads out of the root.
    """
    relative = name.removeprefix("local/")
    for root in model_roots:
        base = root.resolve()
        folder = (base / relative).resolve()
        if folder.is_relative_to(base) and (folder / "config.json").is_file():
            check_links(name, folder, base)
            return folder
    known = sorted(local_models(model_roots))
    near = difflib.get_close_matches(name, known, n=1)
    hint = (
        f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(known[:10]) or 'none'}."
    )
    raise ModelNotFound(f"No model folder {name!r} under MODEL_ROOTS.{hint}", param="model")


def check_links(name: str, folder: Path, base: Path) -> None:
    """Raise InvalidModel if a file of this folder is really one outside of `base`.

    What a model's files lead to is read, trained on and handed out with it.
    """
    with os.scandir(folder) as entries:
        links = sorted(entry.name for entry in entries if entry.is_symlink())
    for link in links:
        if leads_out(folder / link, base):
            raise InvalidModel(
                f"{link} of {name} is a link that leaves the folder of models. "
                "Put the file itself there.",
                param="model",
            )


def leads_out(path: Path, base: Path) -> bool:
    """Whether a path, with all links followed, is outside of `base`, which has none."""
    try:
        return not path.resolve().is_relative_to(base)
    except (OSError, RuntimeError):
        return True  # a link to itself


def local_models(model_roots: Sequence[Path]) -> Iterator[str]:
    """The names of all model folders, at most four levels below a root."""
    for root in model_roots:
        for folder, names, files in os.walk(root):
            relative = Path(folder).relative_to(root)
            if "config.json" in files:
                yield f"local/{relative.as_posix()}"
            if len(relative.parts) >= 4:
                names.clear()


def _not_a_name(name: str) -> InvalidArgument:
    return InvalidArgument(f"{name[:100]!r} is not a model name. {HOW_TO_NAME}", param="model")
