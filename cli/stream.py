"""A job's events, live: each once, over however many connections."""

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from cli.client import JOBS, TERMINAL, Client
from cli.errors import Exit, UserError

RECONNECT_SECONDS = 1.0
Event = dict[str, Any]


def stream_events(client: Client, job_id: str, *, after: str = "") -> Iterator[Event]:
    """All events after that one, to the last; connects again from the last one seen."""
    return (event for event in stream_beats(client, job_id, after=after) if event is not None)


def stream_beats(client: Client, job_id: str, *, after: str = "") -> Iterator[Event | None]:
    """The same, with a None now and then while nothing happens."""
    last, is_connected = after, False
    while True:
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
        try:
            with client.stream(f"{JOBS}/{job_id}/events", **headers) as response:
                is_connected = True
                for number, event in _frames(lines_of(response.iter_text())):
                    last = number or last
                    yield event
                    if event is not None and is_end(event):
                        return
                if response.status_code == 204:
                    return
        except UserError as error:
            # A server that restarts comes back; one that refuses will refuse again.
            if not is_connected or error.code not in (Exit.NO_SERVER, Exit.ERROR):
                raise
        time.sleep(RECONNECT_SECONDS)


def lines_of(texts: Iterable[str]) -> Iterator[str]:
    """Lines as their writer ended them: what else Unicode takes for an end stays within a line."""
    rest = ""
    for text in texts:
        *lines, rest = (rest + text).split("\n")
        yield from lines
    if rest:
        yield rest


def is_log(event: Event) -> bool:
    """Whether it is a line that the training printed."""
    return kind_of(event) == "log"


def kind_of(event: Event) -> str:
    """What an event is about: metrics, state, message, log, checkpoint, …"""
    if event["type"] == "metrics":
        return "metrics"
    return str((event["data"] or {}).get("kind"))


def is_end(event: Event) -> bool:
    """Whether nothing comes after it."""
    return kind_of(event) == "state" and event["data"].get("status") in TERMINAL


def _frames(lines: Iterator[str]) -> Iterator[tuple[str, Event | None]]:
    number = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            number = value
        elif name == "data":
            yield number, json.loads(value)
        elif line.startswith(":"):
            yield "", None
