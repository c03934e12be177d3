"""Following a job: a calm live region on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cli.client import Client
from cli.errors import Exit
from cli.live import Picture
from cli.output import plain
from cli.shown import called, seconds_of
from cli.stream import is_end, is_log, kind_of, stream_beats, stream_events
from cli.words import in_words

TOLD_SECONDS = 30.0
"""Between two lines about steps where there is no terminal."""


def follow(client: Client, job_id: str, *, with_logs: bool = False) -> None:
    """Show a job's events until its last one; Ctrl-C stops the showing, not the job."""
    console = Console(stderr=True)
    try:
        if console.is_terminal:
            _follow_live(client, job_id, console, with_logs)
        else:
            _follow_in_lines(client, job_id, with_logs)
    except KeyboardInterrupt:
        job = client.job(job_id)
        sys.stderr.write(f"Still {job['status']}. Come back: tuneyard watch {called(job)}\n")
        sys.exit(Exit.INTERRUPTED)
    for line in ending(client.job(job_id), client.url):
        sys.stderr.write(f"{line}\n")


def ending(job: dict[str, Any], url: str) -> list[str]:
    """What there is to say at a good end; a bad one is said by the exit."""
    taken = seconds_of(job)
    if job["status"] != "succeeded" or taken is None:
        return []
    planned = (job["plan"] or {}).get("total_seconds")
    beside = f" (planned {in_words(planned)})" if planned else ""
    return [
        f"✓ Succeeded in {in_words(taken)}{beside} · step {job['progress']['step']:,}",
        f"  Download  tuneyard pull {called(job)}",
        f"  Or        HF_ENDPOINT={url}/hf hf download {job['fine_tuned_model']}",
    ]


def _follow_in_lines(client: Client, job_id: str, with_logs: bool) -> None:
    told, waiting = 0.0, None
    for event in stream_events(client, job_id):
        if kind_of(event) == "metrics":
            waiting = event
            if time.monotonic() - told < TOLD_SECONDS:
                continue
            told = time.monotonic()
        elif is_end(event) and waiting is not None:
            _write(waiting)
        if not is_log(event) or with_logs:
            _write(event)
        if event is waiting:
            waiting = None


def _write(event: dict[str, Any]) -> None:
    sys.stderr.write(f"{plain(event['message'])}\n")
    sys.stderr.flush()


def _follow_live(client: Client, job_id: str, console: Console, with_logs: bool) -> None:
    picture = Picture()
    live = Live(picture.render(), console=console, refresh_per_second=4, transient=True)
    with live:
        for event in stream_beats(client, job_id):
            if event is None:
                _look_at_queue(client, job_id, picture)
            else:
                was = picture.state
                picture.see(event)
                if picture.state == "queued" and was != "queued":
                    _look_at_queue(client, job_id, picture)
                if _is_told(event, with_logs):
                    live.console.print(_line(event), soft_wrap=True)
            live.update(picture.render())


def _look_at_queue(client: Client, job_id: str, picture: Picture) -> None:
    if picture.state == "queued":
        queue = client.job(job_id)["queue"]
        picture.reason = plain(queue["reason"]) if queue else ""


def _is_told(event: dict[str, Any], with_logs: bool) -> bool:
    return kind_of(event) != "metrics" and (with_logs or not is_log(event))


def _line(event: dict[str, Any]) -> Text:
    if is_log(event):
        return Text(plain(event["message"]), style="dim")
    at = time.strftime("%H:%M", time.localtime(event["created_at"]))
    return Text.assemble((f"  {at}  ", "dim"), plain(event["message"]))
