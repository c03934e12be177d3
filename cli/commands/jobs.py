"""Jobs that are there: list, show, act on, wait for, delete, compare."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import typer

from cli.client import JOBS, TERMINAL, Client
from cli.errors import Exit, UserError
from cli.options import AsJson, JobName, JobNames, OnlyIds
from cli.output import is_terminal, put, put_rows, say, table, width
from cli.shown import JOBS_HEAD, compared, job_cells, job_page, job_row, results_of
from cli.words import in_words

WAIT_SECONDS = 1.0
ASKED_AT_ONCE = 8
SHOWN_CHECKPOINTS = 5
Status = Annotated[
    list[str] | None, typer.Option(help="Only those that are queued, running, …; may be repeated.")
]


def list_jobs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20,
    status: Status = None,
    only_ids: OnlyIds = False,
    as_json: AsJson = False,
) -> None:
    """List the jobs, the newest first.

    Examples:
    tuneyard jobs list --status running --status queued
    tuneyard jobs list -q --status running | xargs tuneyard jobs wait
    """
    client = Client()
    found = client.pages(JOBS, limit=limit, **({"status": status} if status else {}))
    if not found:
        say(
            f"No job is {' or '.join(status)}."
            if status
            else "No jobs yet. Start one: tuneyard submit MODEL --file data.jsonl"
        )
    if as_json or only_ids or not is_terminal():
        put_rows(found, as_json, map(job_row, found), only_ids=only_ids)
        return
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        losses = list(pool.map(lambda job: _last_loss(client, job), found))
    rows = (job_cells(job, loss) for job, loss in zip(found, losses, strict=True))
    put_rows(found, False, rows, head=JOBS_HEAD)
    for job in found:
        if job["error"]:
            short = job["id"].removeprefix("ftjob-")[:8]
            say(f"✕ {short}: {job['error']['code']}. tuneyard show {short}")


def show(job: JobName, as_json: AsJson = False) -> None:
    """Show a job: how it stands, why it failed, its plan beside what was measured.

    Examples:
    tuneyard show support-v3
    tuneyard show @last --json
    """
    client = Client()
    found = client.job(job)
    if as_json:
        put(found, True, "")
        return
    path = f"{JOBS}/{found['id']}"
    checkpoints = client.get(f"{path}/checkpoints", limit=SHOWN_CHECKPOINTS)["data"]
    metrics = client.get(f"{path}/metrics")
    page = job_page(found, checkpoints, metrics, server=client.url, width=width())
    put(found, False, page)


def compare(names: JobNames, as_json: AsJson = False) -> None:
    """Show in what settings jobs differ, and how they have come out.

    Examples:
    tuneyard jobs compare support-v2 support-v3
    """
    client = Client()
    jobs = [client.job(name) for name in names]
    if len(jobs) < 2:
        raise UserError("One job differs from nothing.", "Name two or more.", code=Exit.USAGE)
    curves = [client.get(f"{JOBS}/{job['id']}/metrics") for job in jobs]
    results = [results_of(job, curve) for job, curve in zip(jobs, curves, strict=True)]
    differences = compared(jobs)
    found = {"jobs": [job["id"] for job in jobs], "differences": differences, "results": results}
    rows = [["", *(job["user_provided_suffix"] or job["id"] for job in jobs)]]
    rows += [[name, *map(_cell, values)] for name, values in differences.items()]
    rows += [[name, *(_result(name, result) for result in results)] for name in results[0]]
    put(found, as_json, table(rows, width=width()))


def cancel(
    job: JobName,
    save: Annotated[bool, typer.Option("--save", help="Keep a last checkpoint.")] = False,
    as_json: AsJson = False,
) -> None:
    """Cancel a job; --save keeps a last checkpoint.

    Examples:
    tuneyard cancel @last --save
    """
    _act(job, "cancel", as_json, save=save)


def pause(job: JobName, as_json: AsJson = False) -> None:
    """Pause a job; it saves and frees its device.

    Examples:
    tuneyard pause support-v3
    """
    _act(job, "pause", as_json)


def resume(job: JobName, as_json: AsJson = False) -> None:
    """Let a paused job go on exactly where it stopped.

    Examples:
    tuneyard resume support-v3
    """
    _act(job, "resume", as_json)


def wait(
    names: JobNames,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds; then it exits 8.")] = None,
) -> None:
    """Wait for a job's end without a word; the exit code is its result.

    Of several jobs it is the result of the first one named that has not succeeded.

    Examples:
    tuneyard jobs wait @last --timeout 3600 && tuneyard pull @last
    tuneyard jobs list -q --status running | xargs tuneyard jobs wait
    """
    client = Client()
    ends = time.monotonic() + timeout if timeout is not None else None
    # A name may be another job's by the time that the first one has ended; an id is not.
    jobs = [client.job(name) for name in names]
    ended = [_ended(client, job, ends) for job in jobs]
    for job in ended:
        exit_like(job)


def show_metrics(job: JobName) -> None:
    """Print a job's metrics by step, as CSV.

    Examples:
    tuneyard jobs metrics @last > metrics.csv
    """
    client = Client()
    path = f"{JOBS}/{client.job(job)['id']}/metrics?format=csv"
    with client.stream(path) as response:
        for text in response.iter_text():
            sys.stdout.write(text)


def delete(job: JobName, as_json: AsJson = False) -> None:
    """Delete a job that has ended, with all that it learned.

    Examples:
    tuneyard jobs delete ftjob-0123456789abcdef01234567
    """
    client = Client()
    done = client.delete(f"{JOBS}/{client.job(job)['id']}")
    put(done, as_json, done["id"])


def open_page(job: JobName) -> None:
    """Open a job's page in the browser.

    Examples:
    tuneyard jobs open @last
    """
    client = Client()
    url = f"{client.url}/jobs/{client.job(job)['id']}"
    typer.launch(url)
    put(url, False, url)


def exit_like(job: dict[str, Any]) -> None:
    """End as the job did, if it has ended badly."""
    codes = {"failed": Exit.JOB_FAILED, "cancelled": Exit.JOB_CANCELLED}
    if job["status"] in codes:
        message = (job["error"] or {}).get("message", f"The job was {job['status']}.")
        hint = f"tuneyard show {job['id']}" if job["error"] else ""
        raise UserError(message, hint, code=codes[job["status"]])


def _ended(client: Client, job: dict[str, Any], ends: float | None) -> dict[str, Any]:
    while job["status"] not in TERMINAL:
        if ends is not None and time.monotonic() >= ends:
            raise UserError(f"{job['id']} is still {job['status']}.", code=Exit.TIMED_OUT)
        time.sleep(WAIT_SECONDS)
        job = client.job(job["id"])
    return job


def _act(name: str, action: str, as_json: bool, **query: Any) -> None:
    client = Client()
    job = client.post(f"{JOBS}/{client.job(name)['id']}/{action}", **query)
    put(job, as_json, "\t".join(job_row(job)))


def _last_loss(client: Client, job: dict[str, Any]) -> float | None:
    if not job["progress"]["step"]:
        return None
    query = {"kind": "metrics", "limit": 10}
    for event in client.get(f"{JOBS}/{job['id']}/events", **query)["data"]:
        if "train_loss" in event["data"]:
            return float(event["data"]["train_loss"])
    return None


def _cell(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


def _result(name: str, result: dict[str, Any]) -> str:
    value = result[name]
    if name == "seconds" and value is not None:
        return in_words(value)
    return f"{value:.4f}" if isinstance(value, float) else _cell(value)
