"""Following a job: a calm live region on a terminal, plain lines elsewhere."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.live import Live

from cli.client import JOBS, Client
from cli.errors import Exit, UserError
from cli.live import Picture

RECONNECT_SECONDS = 1.0


def follow(client: Client, job_id: str) -> None:
    """Show a job's events until its last one; Ctrl-C stops the showing, not the job."""
    console = Console(stderr=True)
    try:
        if console.is_terminal:
            _follow_live(client, job_id, console)
        else:
            for event in stream_events(client, job_id):
                if (event["data"] or {}).get("kind") != "log":
                    console.print(event["message"], markup=False, highlight=False)
    except KeyboardInterrupt:
        console.print(f"Still running. Come back: tuneyard watch {job_id}")
        sys.exit(Exit.INTERRUPTED)


def log_lines(
    client: Client, job_id: str, *, is_following: bool, tail: int | None, grep: str
) -> Iterator[str]:
    """What the training printed, where it has this text; with `is_following` until the end."""
    if is_following:
        for event in stream_events(client, job_id):
            if (event["data"] or {}).get("kind") == "log" and grep in event["message"]:
                yield f"{event['message']}\n"
        return
    query = f"?tail={tail}" if tail else ""
    with client.stream(f"{JOBS}/{job_id}/logs{query}") as response:
        if grep:
            yield from (f"{line}\n" for line in response.iter_lines() if grep in line)
        else:
            yield from response.iter_text()


def stream_events(client: Client, job_id: str) -> Iterator[dict[str, Any]]:
    """All events of a job, live, each once; connects again from the last number seen."""
    last = ""
    while True:
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
        try:
            with client.stream(f"{JOBS}/{job_id}/events", **headers) as response:
                for number, event in _frames(response.iter_lines()):
                    last = number
                    yield event
                    if _is_last(event):
                        return
                if response.status_code == 204:
                    return
        except UserError as error:
            # A server that restarts comes back; one that refuses will refuse again.
            if not last or error.code not in (Exit.NO_SERVER, Exit.ERROR):
                raise
        time.sleep(RECONNECT_SECONDS)


def _frames(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    number = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            number = value
        elif name == "data":
            yield number, json.loads(value)


def _is_last(event: dict[str, Any]) -> bool:
    data = event["data"] or {}
    return data.get("kind") == "state" and data.get("status") in (
        "succeeded",
        "failed",
        "cancelled",
    )


def _follow_live(client: Client, job_id: str, console: Console) -> None:
    picture = Picture()
    with Live(picture.render(), console=console, refresh_per_second=4) as live:
        for event in stream_events(client, job_id):
            picture.see(event)
            is_told = event["type"] != "metrics" and (event["data"] or {}).get("kind") != "log"
            if is_told:
                live.console.print(event["message"], markup=False, highlight=False)
            live.update(picture.render())
    sys.stderr.flush()
