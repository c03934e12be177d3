"""The machines that train, as they last described themselves."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.models import Worker


def list_workers(session: Session) -> Sequence[Worker]:
    """The workers, the one that was seen last first."""
    return session.scalars(select(Worker).order_by(Worker.heartbeat_at.desc())).all()
