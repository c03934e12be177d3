"""The log of a job: a part of it, and what is printed from then on."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from time import time
from typing import Any
from urllib.parse import urlencode

from cli.client import JOBS, Client
from cli.errors import Exit, UserError
from cli.stream import is_log, kind_of, lines_of, stream_events

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which lines are wanted; `tail` is taken before `grep`."""

    tail: int | None = None
    grep: str = ""
    attempt: int | None = None
    since: str | None = None
    lines: str | None = None
    is_following: bool = False


def log_lines(client: Client, job_id: str, wanted: Wanted) -> Iterator[str]:
    """The lines, without their ends. Following begins where the past ends: no line comes twice."""
    if wanted.lines and wanted.is_following:
        raise UserError("--lines has an end; leave out --follow.", code=Exit.USAGE)
    cursor = _newest(client, job_id) if wanted.is_following else ""
    found = _past(client, job_id, wanted, cursor)
    if wanted.lines:
        first, last = _span(wanted.lines)
        found = islice(found, first - 1, last)
    yield from (line for line in found if wanted.grep in line)
    if wanted.is_following:
        yield from (line for line in _coming(client, job_id, wanted, cursor) if wanted.grep in line)


def parse_since(text: str) -> int:
    """Unix seconds of a time like 5m, 2h, or 2026-05-01T12:00."""
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is not None:
        return max(0, int(time() - int(found[1]) * UNITS[found[2]]))
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError, OSError) as error:
        hint = "Say 30s, 5m, 2h, 1d, or a time like 2026-05-01T12:00."
        raise UserError(f"--since {text}: not a time.", hint, code=Exit.USAGE) from error


def _newest(client: Client, job_id: str) -> str:
    events = client.get(f"{JOBS}/{job_id}/events", limit=1)["data"]
    return str(events[0]["id"]) if events else ""


def _past(client: Client, job_id: str, wanted: Wanted, until: str) -> Iterator[str]:
    asked: dict[str, Any] = {"tail": wanted.tail, "attempt": wanted.attempt, "until": until or None}
    if wanted.since is not None:
        asked["since"] = parse_since(wanted.since)
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    with client.stream(f"{JOBS}/{job_id}/logs?{query}") as response:
        yield from lines_of(response.iter_text())


def _coming(client: Client, job_id: str, wanted: Wanted, cursor: str) -> Iterator[str]:
    attempt = _attempt_at(client, job_id, cursor) if wanted.attempt else None
    for event in stream_events(client, job_id, after=cursor):
        if kind_of(event) == "state":
            attempt = event["data"].get("attempt", attempt)
        if is_log(event) and wanted.attempt in (None, attempt):
            yield event["message"]


def _attempt_at(client: Client, job_id: str, cursor: str) -> int | None:
    """The number of the attempt that was under way at an event."""
    states = client.get(f"{JOBS}/{job_id}/events", kind="state", limit=100)["data"]
    past: Iterable[Any] = (one for one in states if _number(one["id"]) <= _number(cursor))
    return next((one["data"]["attempt"] for one in past if "attempt" in one["data"]), None)


def _number(event_id: str) -> int:
    return int(event_id.rpartition("-")[2] or 0)


def _span(text: str) -> tuple[int, int | None]:
    found = re.fullmatch(r"(\d+)(?:-(\d*))?", text)
    if found is None or int(found[1]) < 1:
        hint = "Say 412-431, 412-, or 412; the first line is 1."
        raise UserError(f"--lines {text}: no lines.", hint, code=Exit.USAGE)
    first = int(found[1])
    if found[2] is None:
        return first, first
    return first, int(found[2]) if found[2] else None
