"""Following a job: `watch`, `logs` and `events`."""

import json
import sys
from typing import Annotated

import typer

from cli.client import Client
from cli.commands.jobs import exit_like
from cli.logs import Wanted, log_lines
from cli.options import JobName
from cli.output import for_terminal
from cli.stream import stream_events
from cli.watch import follow

AsLines = Annotated[bool, typer.Option("--json", "--jsonl", help="One event a line.")]


def watch(
    job: JobName,
    with_logs: Annotated[
        bool, typer.Option("--logs", help="With what the training prints, above the live lines.")
    ] = False,
    as_json: AsLines = False,
) -> None:
    """Follow a job to its end; the exit code is its result. Ctrl-C leaves it running.

    Examples:
    tuneyard watch @last --logs
    tuneyard watch support-v3 --jsonl | jq .message
    """
    client = Client()
    job_id = client.job(job)["id"]
    if as_json:
        _write_events(client, job_id)
    else:
        follow(client, job_id, with_logs=with_logs)
    exit_like(client.job(job_id))


def logs(
    job: JobName,
    is_following: Annotated[bool, typer.Option("--follow", "-f", help="To the end.")] = False,
    tail: Annotated[int | None, typer.Option(min=1, help="Only the last so many lines.")] = None,
    since: Annotated[str | None, typer.Option(help="Only since 5m, 2h or a time.")] = None,
    attempt: Annotated[int | None, typer.Option(min=1, help="Only of this attempt.")] = None,
    lines: Annotated[str | None, typer.Option(help="Only these, like 412-431.")] = None,
    grep: Annotated[str, typer.Option(help="Only lines with this text.")] = "",
) -> None:
    """Print what the training has printed.

    Examples:
    tuneyard logs @last -f --tail 100
    tuneyard logs support-v3 --since 5m --grep WARN --attempt 2
    """
    client = Client()
    job_id = client.job(job)["id"]
    wanted = Wanted(
        tail=tail,
        grep=grep,
        attempt=attempt,
        since=since,
        lines=lines,
        is_following=is_following,
    )
    for line in log_lines(client, job_id, wanted):
        sys.stdout.write(f"{for_terminal(line)}\n")
        if is_following:
            sys.stdout.flush()


def list_events(job: JobName) -> None:
    """Print a job's events as they come, one JSON object a line.

    Examples:
    tuneyard jobs events @last | jq -r .message
    """
    client = Client()
    _write_events(client, client.job(job)["id"])


def _write_events(client: Client, job_id: str) -> None:
    for event in stream_events(client, job_id):
        sys.stdout.write(f"{json.dumps(event)}\n")
        sys.stdout.flush()
