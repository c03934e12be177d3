"""Following a job: `watch`, `logs` and `events`."""

import json
import sys
from typing import Annotated

import typer

from cli.client import Client
from cli.commands.jobs import exit_like
from cli.options import JobName
from cli.watch import follow, log_lines, stream_events


def watch(
    job: JobName,
    as_json: Annotated[bool, typer.Option("--json", help="One event a line.")] = False,
) -> None:
    """Follow a job to its end; the exit code is its result. Ctrl-C leaves it running."""
    client = Client()
    job_id = client.job(job)["id"]
    if as_json:
        for event in stream_events(client, job_id):
            sys.stdout.write(f"{json.dumps(event)}\n")
            sys.stdout.flush()
    else:
        follow(client, job_id)
    exit_like(client.job(job_id))


def logs(
    job: JobName,
    is_following: Annotated[bool, typer.Option("--follow", "-f")] = False,
    tail: Annotated[int | None, typer.Option(min=1)] = None,
    grep: Annotated[str, typer.Option(help="Only lines with this text.")] = "",
) -> None:
    """Print what the training has printed."""
    client = Client()
    job_id = client.job(job)["id"]
    for text in log_lines(client, job_id, is_following=is_following, tail=tail, grep=grep):
        sys.stdout.write(text)
        sys.stdout.flush()


def list_events(job: JobName) -> None:
    """Print a job's events as they come, one JSON object a line."""
    watch(job, as_json=True)
