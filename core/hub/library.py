"""Finds repositories by name: jobs, their checkpoints, base models, and files as datasets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.base_model import local_folder, local_models, parse_model
from core.checkpoints import get_checkpoint
from core.errors import (
    CheckpointNotFound,
    FileNotFound,
    InvalidArgument,
    InvalidModel,
    JobNotFound,
    RepositoryNotFound,
)
from core.files import get_file, list_files
from core.hub.bases import cached_repository, local_repository
from core.hub.hashes import HashIndex
from core.hub.repository import (
    About,
    FixedRepository,
    JobRepository,
    Repository,
    checkpoint_snapshot,
    job_about,
)
from core.hub.tree import Commit, Snapshot, commit_id, large_file
from core.models import Checkpoint, File, Job
from core.permissions import get_usable_job
from core.settings import Settings
from core.storage import Storage

Kind = Literal["models", "datasets"]

_FILE_REPOSITORY = re.compile(r"files/(file-[A-Za-z0-9]{1,64})")
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,10}){1,2}")
_PACKED = {"gzip": ".gz", "zstd": ".zst"}


@dataclass(frozen=True, slots=True)
class Library:
    """Everything that one project may read here as repositories."""

    session: Session
    storage: Storage
    settings: Settings
    hashes: HashIndex
    project_id: str

    def repository(self, kind: Kind, name: str) -> Repository:
        """The repository of this name; RepositoryNotFound for what others own, too."""
        found = self._model(name) if kind == "models" else self._dataset(name)
        if found is None:
            raise RepositoryNotFound(f"There is no {name[:200]!r} among the {kind} here.")
        return found

    def models(self) -> Iterator[About]:
        """The models to load from here: of jobs, the newest first, and local folders."""
        query = (
            select(Job)
            .where(
                Job.project_id == self.project_id,
                select(Checkpoint.id).where(Checkpoint.job_id == Job.id).exists(),
            )
            .order_by(Job.created_at.desc())
        )
        for job in self.session.scalars(query):
            yield job_about(job, f"jobs/{job.id}")
        roots = self.settings.model_roots
        for name in sorted(set(local_models(roots))):
            if name.count("/") == 1:
                try:
                    changed = local_folder(name, roots).stat().st_mtime
                except InvalidModel:
                    continue  # it is not served either
                yield About(name, datetime.fromtimestamp(changed, UTC), "transformers")

    def datasets(self) -> Iterator[About]:
        """The uploaded files, the newest first."""
        for file in list_files(self.session, project_id=self.project_id):
            yield About(f"files/{file.id}", file.created_at)

    def _model(self, name: str) -> Repository | None:
        try:
            parsed = parse_model(name)
        except InvalidArgument:
            return None
        if parsed.kind == "job":
            assert parsed.job_id is not None
            return self._job(parsed.job_id, parsed.step)
        return self._local(name) or cached_repository(name, self._cache)

    def _job(self, job_id: str, step: int | None) -> Repository | None:
        try:
            job = get_usable_job(self.session, job_id, step, project_id=self.project_id)
            if step is None:
                return JobRepository(self.session, self.storage, job)
            checkpoint = get_checkpoint(self.session, job.id, step)
        except (JobNotFound, CheckpointNotFound):
            return None
        if checkpoint.is_corrupt:
            return None
        about = job_about(job, f"jobs/{job.id}.step-{step}")
        return FixedRepository(about, checkpoint_snapshot(checkpoint, self.storage))

    def _local(self, name: str) -> FixedRepository | None:
        return local_repository(name, self.settings.model_roots, self.hashes)

    def _dataset(self, name: str) -> Repository | None:
        found = _FILE_REPOSITORY.fullmatch(name)
        if found is None:
            return None
        try:
            file = get_file(self.session, found[1], project_id=self.project_id)
        except FileNotFound:
            return None
        return _file_repository(file, name, self.storage)

    @property
    def _cache(self) -> Path:
        """Where a worker that shares this machine's scratch folder keeps what it fetched."""
        return self.settings.scratch_folder / "cache" / "hub" / "hub"


def _file_repository(file: File, name: str, storage: Storage) -> FixedRepository:
    path = f"train{_suffix(file)}"
    only = large_file(path, size=file.size_bytes, key=file.storage_key, sha256=file.sha256)
    commit = Commit(commit_id(name, [(path, file.sha256)]), "upload", file.created_at)
    return FixedRepository(About(name, file.created_at), Snapshot(commit, (only,), storage))


def _suffix(file: File) -> str:
    """By what readers of datasets know the format: what validation found, else the user's name."""
    report = file.report
    if report is None:
        found = _SUFFIX.search(file.filename)
        return found[0].lower() if found and file.filename.endswith(found[0]) else ".bin"
    return f".{report.get('format', 'jsonl')}{_PACKED.get(report.get('compression') or '', '')}"
