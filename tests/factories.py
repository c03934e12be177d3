"""Objects for tests: plain functions that take the session first, with defaults for the rest."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from core.hub_client import HubClient
from core.jobs import submit_job
from core.models import Job
from core.plan.reader import FactsReader
from core.queue import Lease, RetryPolicy, claim_job
from core.spec import ResolvedSpec, parse_spec

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
POLICY = RetryPolicy(max_lost_attempts=3, backoff_seconds=5)
LEASE_SECONDS = 60.0


NOWHERE = "http://127.0.0.1:9"
"""Nobody listens there."""


def facts_reader(model_roots: Sequence[Path]) -> FactsReader:
    """A reader of model facts without a Hub."""
    return FactsReader(model_roots, HubClient(NOWHERE))


def later(seconds: float) -> datetime:
    """A time after NOW."""
    return NOW + timedelta(seconds=seconds)


def make_job(session: Session, *, now: datetime = NOW, **fields: Any) -> Job:
    """A queued job; `fields` are those of a request."""
    project_id = fields.pop("project_id", "default")
    spec = parse_spec({"model": "local/tiny", "training_file": "file-1", **fields})
    resolved = ResolvedSpec(
        training=dict(spec.training),
        base_model=spec.model,
        seed=spec.seed or 42,
        max_attempts=spec.max_attempts or 3,
        warnings=(),
    )
    return submit_job(session, spec, resolved, now=now, ring=lambda: None, project_id=project_id)


def make_attempt(
    session: Session, *, now: datetime = NOW, worker: str = "worker-1", **fields: Any
) -> tuple[Job, Lease]:
    """A job that is running under a lease taken at `now`."""
    make_job(session, now=now, **fields)
    claimed = claim_job(session, worker=worker, now=now, lease_seconds=LEASE_SECONDS)
    assert claimed is not None
    return claimed
