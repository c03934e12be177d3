"""The two kinds of repositories: of a job, with a tag for each checkpoint, and of one state."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from core.checkpoints import entries
from core.errors import RevisionNotFound
from core.hub.tree import Commit, HubFile, Snapshot, large_file
from core.models import Checkpoint, Job
from core.storage import Storage

MAIN = "main"
_STEP = re.compile(r"step-(0|[1-9][0-9]{0,17})")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class About:
    """What a repository's page would say of it."""

    name: str
    created_at: datetime
    library: str | None = None
    """What loads it: transformers or peft."""
    base_model: str | None = None


class Repository(Protocol):
    """Revisions of one name."""

    @property
    def about(self) -> About:
        """What it is."""

    def main(self) -> Commit | None:
        """The newest commit; None while there is none."""

    def tags(self) -> dict[str, str]:
        """Names of commits beside `main`."""

    def history(self, revision: str) -> Sequence[Commit]:
        """This commit and those before it, the newest first."""

    def snapshot(self, revision: str) -> Snapshot:
        """The state that a branch, a tag or a commit means; RevisionNotFound otherwise."""


@dataclass(frozen=True, slots=True)
class FixedRepository:
    """A repository of one state, which never changes."""

    about: About
    only: Snapshot

    def main(self) -> Commit | None:
        """Its only commit."""
        return self.only.commit

    def tags(self) -> dict[str, str]:
        """None."""
        return {}

    def history(self, revision: str) -> Sequence[Commit]:
        """Its only commit."""
        return [self.snapshot(revision).commit]

    def snapshot(self, revision: str) -> Snapshot:
        """Its only state."""
        if revision not in (MAIN, self.only.commit.id):
            raise no_revision(self.about.name, revision)
        return self.only


@dataclass(frozen=True, slots=True)
class JobRepository:
    """The checkpoints of a job: a commit and a tag `step-N` each, `main` is the newest."""

    session: Session
    storage: Storage
    job: Job

    @property
    def about(self) -> About:
        """The job, and how to load what it trains."""
        return job_about(self.job, f"jobs/{self.job.id}")

    def main(self) -> Commit | None:
        """The newest checkpoint that is whole."""
        found = self._checkpoints()
        return _commit(found[0]) if found else None

    def tags(self) -> dict[str, str]:
        """The checkpoints by step."""
        return {f"step-{item.step}": item.revision for item in reversed(self._checkpoints())}

    def history(self, revision: str) -> Sequence[Commit]:
        """A checkpoint and those before it."""
        last = self._find(revision)
        return [_commit(item) for item in self._checkpoints() if item.step <= last.step]

    def snapshot(self, revision: str) -> Snapshot:
        """A checkpoint's files to take home."""
        return checkpoint_snapshot(self._find(revision), self.storage)

    def _find(self, revision: str) -> Checkpoint:
        query = select(Checkpoint).where(
            Checkpoint.job_id == self.job.id, Checkpoint.is_corrupt.is_(False)
        )
        step = _STEP.fullmatch(revision)
        if step is not None:
            query = query.where(Checkpoint.step == int(step[1]))
        elif _COMMIT.fullmatch(revision):
            query = query.where(Checkpoint.revision == revision)
        elif revision != MAIN:
            raise no_revision(self.about.name, revision)
        found = self.session.scalar(query.order_by(Checkpoint.step.desc()).limit(1))
        if found is None:
            raise no_revision(self.about.name, revision)
        return found

    def _checkpoints(self) -> Sequence[Checkpoint]:
        query = (
            select(Checkpoint)
            .where(Checkpoint.job_id == self.job.id, Checkpoint.is_corrupt.is_(False))
            .options(defer(Checkpoint.manifest, raiseload=True))
            .order_by(Checkpoint.step.desc())
        )
        return self.session.scalars(query).all()


def checkpoint_snapshot(checkpoint: Checkpoint, storage: Storage) -> Snapshot:
    """What users take home of a checkpoint."""
    return Snapshot(_commit(checkpoint), tuple(_files(checkpoint)), storage)


def job_about(job: Job, name: str) -> About:
    """How a job's repository presents itself."""
    peft: dict[str, Any] | None = job.spec.get("peft")
    library = "peft" if peft is not None else "transformers"
    return About(name, job.created_at, library, job.base_model)


def no_revision(name: str, revision: str) -> RevisionNotFound:
    """The error of a branch, tag or commit that a repository does not have."""
    return RevisionNotFound(f"{name} has no revision {revision[:100]!r}.", param="revision")


def _commit(checkpoint: Checkpoint) -> Commit:
    return Commit(checkpoint.revision, f"step-{checkpoint.step}", checkpoint.created_at)


def _files(checkpoint: Checkpoint) -> list[HubFile]:
    found = [
        large_file(
            entry.path,
            size=entry.size_bytes,
            key=f"{checkpoint.prefix}/{entry.path}",
            sha256=entry.sha256,
        )
        for entry in entries(checkpoint, "weights")
    ]
    return sorted(found, key=lambda file: file.path)
