"""Watching a job: events in pages or live, the log as text, the metrics as columns."""

from collections.abc import Hashable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.caller import Caller, CallerDatabase
from app.limits import LimitedStream
from app.schemas import EventObject, Page
from app.services import DatabaseDep, ReadSession, Services, ServicesDep
from core.db import Database
from core.errors import InvalidArgument
from core.events import LogPart, list_events, read_log, read_metrics, seq_before_tail
from core.ids import event_seq
from core.jobs import get_job
from core.models import Job
from core.results import metrics_csv
from core.series import thin
from core.states import EventKind

router = APIRouter(prefix="/v1/fine_tuning/jobs/{job_id}", tags=["watching"])

STREAM_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
LOG_BATCH = 1000
LAST_SECOND = 253_402_300_799
"""Of the year 9999, the last one that has a date."""
MAX_TAIL = 100_000
MAX_CURSOR_CHARACTERS = 64


@router.get("/events", response_model=Page[EventObject])
async def get_events(
    request: Request,
    services: ServicesDep,
    database: DatabaseDep,
    job_id: str,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    kind: EventKind | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Any:
    """The newest events first; live from `Last-Event-ID` on with `Accept: text/event-stream`."""
    if "text/event-stream" in request.headers.get("accept", ""):
        caller: Caller = request.state.caller
        who = (caller.project_id, caller.key_id)
        return await _stream(services, database, job_id, last_event_id or after, who)
    return await run_in_threadpool(_page, database, job_id, after, limit, kind)


@router.get("/logs", response_class=Response)
def get_logs(
    session: ReadSession,
    services: ServicesDep,
    job_id: str,
    tail: Annotated[int | None, Query(ge=1, le=MAX_TAIL)] = None,
    until: str | None = None,
    attempt: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    since: Annotated[int | None, Query(ge=0, le=LAST_SECOND)] = None,
) -> Response:
    """Everything that the training printed, as plain text; `tail=n` gives the last n lines.

    `attempt` gives those of one attempt, `since` those printed from then on, in unix seconds. With
    `until`, an event's number or id, a stream from that event on repeats no line.
    """
    job = get_job(session, job_id)
    part = LogPart(
        until_seq=parse_cursor(job_id, until) if until else None,
        attempt=attempt,
        since=datetime.fromtimestamp(since, UTC) if since is not None else None,
    )
    start = seq_before_tail(session, job.id, tail, part) if tail is not None else 0
    return StreamingResponse(
        _lines(services.database, job.id, start, part), media_type="text/plain; charset=utf-8"
    )


@router.get("/metrics", response_class=Response)
def get_metrics(
    request: Request,
    session: ReadSession,
    job_id: str,
    format: Annotated[Literal["json", "csv"] | None, Query()] = None,
    max_points: Annotated[int | None, Query(ge=2, le=100_000)] = None,
) -> Response:
    """The metrics as columns of equal length by step; null where none was logged.

    `max_points` leaves rows out, and keeps the extremes of the training loss.
    """
    columns = read_metrics(session, get_job(session, job_id).id)
    if max_points is not None:
        columns = thin(columns, max_points)
    if format == "csv" or (format is None and "text/csv" in request.headers.get("accept", "")):
        return Response(metrics_csv(columns), media_type="text/csv; charset=utf-8")
    return Response(orjson.dumps(columns), media_type="application/json")


async def _stream(
    services: Services, database: CallerDatabase, job_id: str, last: str | None, who: Hashable
) -> Response:
    job = await run_in_threadpool(_find, database, job_id)
    seq = parse_cursor(job_id, last) if last else 0
    if job.status.is_terminal and seq >= job.event_seq:
        return Response(status_code=204)
    return LimitedStream(
        services.hub.stream(job_id, after_seq=seq),
        places=services.places,
        who=who,
        media_type="text/event-stream",
        headers=STREAM_HEADERS,
    )


def _page(
    database: CallerDatabase, job_id: str, after: str | None, limit: int, kind: EventKind | None
) -> Page[EventObject]:
    before = parse_cursor(job_id, after) if after else None
    with database.read() as session:
        get_job(session, job_id)
        events = list_events(session, job_id, before_seq=before, limit=limit + 1, kind=kind)
    return Page.of([EventObject.of(event) for event in events], limit)


def _find(database: CallerDatabase, job_id: str) -> Job:
    with database.read() as session:
        return get_job(session, job_id)


def parse_cursor(job_id: str, text: str) -> int:
    """An event's number, or its id."""
    number = None
    if len(text) <= MAX_CURSOR_CHARACTERS:
        number = int(text) if text.isascii() and text.isdigit() else event_seq(job_id, text)
    if number is None or number >= 2**63:
        raise InvalidArgument(f"{text[:80]!r} is not an event of this job.", param="after")
    return number


def _lines(database: Database, job_id: str, after_seq: int, part: LogPart) -> Iterator[bytes]:
    while True:
        with database.read() as session:
            lines = read_log(session, job_id, after_seq=after_seq, limit=LOG_BATCH, part=part)
        if not lines:
            return
        after_seq = lines[-1][0]
        yield "".join(f"{text}\n" for _, text in lines).encode()
