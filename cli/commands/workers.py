"""`tuneyard workers`."""

from typing import Any
from urllib.parse import quote

import typer

from cli.client import JOBS, Client
from cli.options import AsJson, OnlyIds, WorkerName
from cli.output import is_terminal, plain, put, put_rows, say
from cli.shown import called
from cli.words import in_words, size_in_words

workers = typer.Typer(no_args_is_help=True, help="The machines that train.")
LOST_SECONDS = 60
SHOWN_ALREADY = ("device", "memory_bytes", "memory_free_bytes", "versions")
HEAD = ("WORKER", "STATE", "SLOTS", "DEVICE", "FREE MEMORY", "SEEN")
ADDING = """\
# On the other machine, with the same version of Tuneyard installed there.
# Workers and servers share a database, a storage and, if there is one, a broker. An SQLite file
# is of one machine, and a folder unless it is shared: take PostgreSQL, and S3 or a shared folder.
# Take the values of the server; docs/settings.md tells of each.
export DATABASE_URL="$DATABASE_URL" STORAGE_URL="$STORAGE_URL" REDIS_URL="$REDIS_URL"
# With S3: S3_ENDPOINT_URL, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_REGION.
export WORKER_NAME="$(hostname)" WORKER_SLOTS=1 MODEL_ROOTS=/models

tuneyard worker
"""


@workers.command("list")
def list_workers(only_ids: OnlyIds = False, as_json: AsJson = False) -> None:
    """List the workers that were seen, the latest first.

    Examples:
    tuneyard workers list
    """
    found = Client().get("/v1/workers")["data"]
    if not found:
        say("No worker was seen. `tuneyard workers add` says how to add one.")
    if is_terminal():
        put_rows(found, as_json, map(_cells, found), head=HEAD, only_ids=only_ids)
        return
    rows = (
        [w["id"], w["slots"], f"seen {w['heartbeat_age_seconds']:.0f} s ago", _state(w)]
        for w in found
    )
    put_rows(found, as_json, rows, only_ids=only_ids)


@workers.command("show")
def show_worker(worker: WorkerName, as_json: AsJson = False) -> None:
    """Show a worker: what it has, and what it runs.

    Examples:
    tuneyard workers show gpu-1
    """
    client = Client()
    found = client.get(_path(worker))
    if as_json:
        put(found, True, "")
        return
    rows = dict(zip(HEAD, _cells(found), strict=True)) | _facts(found["facts"])
    lines = [[name.lower(), value] for name, value in rows.items()]
    for job in client.pages(JOBS, limit=100, status="running"):
        if (job["latest_attempt"] or {}).get("worker") == found["id"]:
            lines.append(["runs", called(job)])
    put_rows([found], False, lines)


@workers.command("drain")
def drain(worker: WorkerName, as_json: AsJson = False) -> None:
    """Let a worker claim nothing more; what it runs goes on. For administrators.

    Examples:
    tuneyard workers drain gpu-1
    """
    found = Client().post(f"{_path(worker)}/drain")
    say(f"✓ {plain(found['id'])} claims nothing more. tuneyard workers undrain {worker}")
    put(found, as_json, found["id"])


@workers.command("undrain")
def undrain(worker: WorkerName, as_json: AsJson = False) -> None:
    """Let a drained worker claim again. For administrators.

    Examples:
    tuneyard workers undrain gpu-1
    """
    found = Client().post(f"{_path(worker)}/undrain")
    put(found, as_json, found["id"])


@workers.command("add")
def add() -> None:
    """Print what starts a worker on another machine.

    Examples:
    tuneyard workers add > start-worker.sh
    """
    put(ADDING, False, ADDING.rstrip())


def _path(worker: str) -> str:
    return f"/v1/workers/{quote(worker, safe='')}"


def _state(worker: dict[str, Any]) -> str:
    if worker["heartbeat_age_seconds"] > LOST_SECONDS:
        return "lost"
    return "drained" if worker["drained_at"] else "ready"


def _cells(worker: dict[str, Any]) -> list[str]:
    facts = worker["facts"]
    free, every = facts.get("memory_free_bytes"), facts.get("memory_bytes")
    memory = "-" if free is None else f"{size_in_words(free)} of {size_in_words(every)}"
    seen = f"{in_words(worker['heartbeat_age_seconds'])} ago"
    device = str(facts.get("device", "cpu"))
    return [worker["id"], _state(worker), str(worker["slots"]), device, memory, seen]


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    shown = {name: facts[name] for name in facts if name not in SHOWN_ALREADY}
    for name in [name for name in shown if name.endswith("_bytes")]:
        value = shown.pop(name)
        if value is not None:
            shown[name.removesuffix("_bytes").replace("_", " ")] = size_in_words(value)
    return {**shown, **facts.get("versions", {})}
