"""Jobs that are there: list, show, act on, wait for, delete."""

import sys
import time
from typing import Annotated, Any

import typer

from cli.client import JOBS, TERMINAL, Client
from cli.errors import Exit, UserError
from cli.options import AsJson, JobName, OnlyIds
from cli.output import job_row, put, put_rows, say

WAIT_SECONDS = 1.0


def list_jobs(
    limit: int = 20,
    status: Annotated[
        str | None, typer.Option(help="Only those that are queued, running, …")
    ] = None,
    only_ids: OnlyIds = False,
    as_json: AsJson = False,
) -> None:
    """List the jobs, the newest first."""
    found = Client().get(JOBS, limit=limit)["data"]
    if not found:
        say("No jobs yet. Start one: tuneyard submit MODEL --file data.jsonl")
    found = [job for job in found if status in (None, job["status"])]
    put_rows(found, as_json, map(job_row, found), only_ids=only_ids)


def show(job: JobName, as_json: AsJson = False) -> None:
    """Show a job."""
    found = Client().job(job)
    lines = ["\t".join(job_row(found))]
    if found["queue"]:
        lines.append(found["queue"]["reason"])
    if found["error"]:
        lines.append(f"{found['error']['code']}: {found['error']['message']}")
    put(found, as_json, "\n".join(lines))


def cancel(job: JobName, save: bool = False, as_json: AsJson = False) -> None:
    """Cancel a job; --save keeps a last checkpoint."""
    _act(job, "cancel", as_json, save=save)


def pause(job: JobName, as_json: AsJson = False) -> None:
    """Pause a job; it saves and frees its device."""
    _act(job, "pause", as_json)


def resume(job: JobName, as_json: AsJson = False) -> None:
    """Let a paused job go on exactly where it stopped."""
    _act(job, "resume", as_json)


def wait(
    job: JobName,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds; then it exits 8.")] = None,
) -> None:
    """Wait for a job's end without a word; the exit code is its result."""
    client = Client()
    ends = time.monotonic() + timeout if timeout is not None else None
    while (found := client.job(job))["status"] not in TERMINAL:
        if ends is not None and time.monotonic() >= ends:
            raise UserError(f"{found['id']} is still {found['status']}.", code=Exit.TIMED_OUT)
        time.sleep(WAIT_SECONDS)
    exit_like(found)


def show_metrics(job: JobName) -> None:
    """Print a job's metrics by step, as CSV."""
    client = Client()
    path = f"{JOBS}/{client.job(job)['id']}/metrics?format=csv"
    with client.stream(path) as response:
        for text in response.iter_text():
            sys.stdout.write(text)


def delete(job: JobName, as_json: AsJson = False) -> None:
    """Delete a job that has ended, with all that it learned."""
    client = Client()
    done = client.delete(f"{JOBS}/{client.job(job)['id']}")
    put(done, as_json, done["id"])


def open_page(job: JobName) -> None:
    """Open a job's page in the browser."""
    client = Client()
    url = f"{client.url}/jobs/{client.job(job)['id']}"
    typer.launch(url)
    put(url, False, url)


def exit_like(job: dict[str, Any]) -> None:
    """End as the job did, if it has ended badly."""
    codes = {"failed": Exit.JOB_FAILED, "cancelled": Exit.JOB_CANCELLED}
    if job["status"] in TERMINAL and job["status"] in codes:
        message = (job["error"] or {}).get("message", f"The job was {job['status']}.")
        raise UserError(message, code=codes[job["status"]])


def _act(name: str, action: str, as_json: bool, **query: Any) -> None:
    client = Client()
    job = client.post(f"{JOBS}/{client.job(name)['id']}/{action}", **query)
    put(job, as_json, "\t".join(job_row(job)))
