"""Events of a job: appended in the transaction of what they tell, read in pages or in order."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, insert, select
from sqlalchemy.orm import Session

from core.models import Attempt, Event
from core.states import EventKind, Level


@dataclass(frozen=True, kw_only=True, slots=True)
class NewEvent:
    """An event that has no number yet."""

    kind: EventKind
    message: str
    data: dict[str, Any] | None = None
    level: Level = Level.INFO
    created_at: datetime | None = None
    """When it happened; null means when it was recorded."""


def append_events(
    session: Session,
    job_id: str,
    events: Sequence[NewEvent],
    *,
    last_seq: int,
    attempt: int,
    now: datetime,
) -> None:
    """Insert `events` so that the newest gets number `last_seq`.

    The caller has raised `Job.event_seq` to `last_seq` in this transaction, and so holds the row:
    numbers have no gaps, and their order is the order of commits.
    """
    if not events:
        return
    first = last_seq - len(events) + 1
    rows = [
        {
            "job_id": job_id,
            "seq": first + offset,
            "attempt": attempt,
            "created_at": event.created_at or now,
            "level": event.level,
            "kind": event.kind,
            "message": event.message,
            "data": event.data,
        }
        for offset, event in enumerate(events)
    ]
    session.execute(insert(Event), rows)


def list_events(
    session: Session,
    job_id: str,
    *,
    before_seq: int | None = None,
    limit: int = 20,
    kind: EventKind | None = None,
) -> list[Event]:
    """The newest events first, older than `before_seq` when it is given."""
    query = select(Event).where(Event.job_id == job_id)
    if kind is not None:
        query = query.where(Event.kind == kind)
    if before_seq is not None:
        query = query.where(Event.seq < before_seq)
    return list(session.scalars(query.order_by(Event.seq.desc()).limit(limit)))


def read_events(session: Session, job_id: str, *, after_seq: int, limit: int = 500) -> list[Event]:
    """The oldest events first, newer than `after_seq`."""
    query = select(Event).where(Event.job_id == job_id, Event.seq > after_seq)
    return list(session.scalars(query.order_by(Event.seq).limit(limit)))


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPart:
    """Which lines of a log are meant; null leaves nothing out."""

    until_seq: int | None = None
    attempt: int | None = None
    since: datetime | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """On events."""
        if self.until_seq is not None:
            yield Event.seq <= self.until_seq
        if self.attempt is not None:
            yield Event.attempt == self.attempt
        if self.since is not None:
            yield Event.created_at >= self.since


WHOLE = LogPart()


def read_log(
    session: Session, job_id: str, *, after_seq: int, limit: int, part: LogPart = WHOLE
) -> Sequence[Row[int, str]]:
    """Number and text of the oldest lines of a part of the log that are newer than `after_seq`."""
    query = select(Event.seq, Event.message).where(
        Event.job_id == job_id,
        Event.seq > after_seq,
        Event.kind == EventKind.LOG,
        *part.conditions(),
    )
    return session.execute(query.order_by(Event.seq).limit(limit)).all()


def seq_before_tail(session: Session, job_id: str, lines: int, part: LogPart = WHOLE) -> int:
    """The number to read after to get the last `lines` lines; 0 when there are fewer."""
    seq = session.scalar(
        select(Event.seq)
        .where(Event.job_id == job_id, Event.kind == EventKind.LOG, *part.conditions())
        .order_by(Event.seq.desc())
        .offset(lines - 1)
        .limit(1)
    )
    return seq - 1 if seq is not None else 0


def log_tail(session: Session, job_id: str, lines: int) -> list[str]:
    """The last lines of the log, the oldest of them first."""
    after = seq_before_tail(session, job_id, lines)
    return [text for _, text in read_log(session, job_id, after_seq=after, limit=lines)]


def read_metrics(session: Session, job_id: str) -> dict[str, list[Any]]:
    """The metrics of a job as columns of equal length, ordered by step; null where none was logged.

    Steps that an attempt trained after the checkpoint that the next one resumed from are left
    out: they were trained again, and the curve is the one of the history that won.
    """
    attempts = session.scalars(select(Attempt).where(Attempt.job_id == job_id))
    resumed = {attempt.number: attempt.resumed_from_step for attempt in attempts}
    rows = session.execute(
        select(Event.attempt, Event.data)
        .where(Event.job_id == job_id, Event.kind == EventKind.METRICS)
        .order_by(Event.seq)
    )
    return _columns(_winning_history(rows, resumed))


def _winning_history(
    rows: Iterable[Row[int, dict[str, Any] | None]], resumed: dict[int, int]
) -> Iterator[dict[str, Any]]:
    by_step: dict[int, dict[str, Any]] = {}
    current = 0
    for attempt, data in rows:
        if attempt != current:
            current = attempt
            kept = resumed.get(attempt, 0)
            by_step = {step: values for step, values in by_step.items() if step <= kept}
        if data is not None:
            by_step.setdefault(data["step"], {}).update(data)
    for step in sorted(by_step):
        yield by_step[step]


def _columns(rows: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    points = list(rows)
    names = dict.fromkeys(["step", *(name for point in points for name in point)])
    return {name: [point.get(name) for point in points] for name in names}
