"""`tuneyard files`, `checkpoints`, `models`, `workers`, `api` and `doctor`."""

import hashlib
import importlib.metadata
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli.client import JOBS, TOKENS, Client
from cli.errors import Exit, UserError
from cli.output import put, put_rows, say

files = typer.Typer(no_args_is_help=True, help="Data to train on.")
checkpoints = typer.Typer(no_args_is_help=True, help="What jobs have learned.")
models = typer.Typer(no_args_is_help=True, help="What can be trained.")
workers = typer.Typer(no_args_is_help=True, help="The machines that train.")

AsJson = Annotated[bool, typer.Option("--json", help="The API's own object.")]
OnlyIds = Annotated[bool, typer.Option("-q", "--quiet", help="Ids only, a line each.")]
JobName = Annotated[str, typer.Argument(help="Job id, a prefix of it, its suffix, or @last.")]
OnDisk = Annotated[Path, typer.Argument(exists=True, dir_okay=False)]
LOW_BYTES = 5 * 1024**3


@files.command("upload")
def upload(file: OnDisk, as_json: AsJson = False) -> None:
    """Upload a file; every row is checked before it is accepted."""
    found = Client().upload(file)
    report = found["report"]
    say(f"{report['rows']:,} rows of the shape {report['shape']}, {found['bytes']:,} bytes")
    put(found, as_json, found["id"])


@files.command("list")
def list_files(only_ids: OnlyIds = False, as_json: AsJson = False) -> None:
    """List the files, the newest first."""
    found = Client().get("/v1/files")["data"]
    rows = ([f["id"], f["purpose"], f["bytes"], f["filename"]] for f in found)
    put_rows(found, as_json, rows, only_ids=only_ids)


@files.command("show")
def show_file(file_id: str, as_json: AsJson = False) -> None:
    """Show what was found in a file."""
    found = Client().get(f"/v1/files/{quote(file_id, safe='')}")
    put(found, as_json, json.dumps(found["report"] or found, indent=2))


@files.command("delete")
def delete_file(file_id: str, as_json: AsJson = False) -> None:
    """Delete a file that no job in progress needs."""
    found = Client().delete(f"/v1/files/{quote(file_id, safe='')}")
    put(found, as_json, found["id"])


@files.command("tokens")
def count_tokens(
    file_id: str,
    model: str,
    max_length: Annotated[int | None, typer.Option(min=1)] = None,
    packing: bool = False,
    as_json: AsJson = False,
) -> None:
    """Count a file's tokens for MODEL: what is read, learned, cut and padded."""
    training: dict[str, Any] = {"packing": True} if packing else {}
    if max_length is not None:
        training["max_length"] = max_length
    body = {"model": model, "training_file": file_id, "training": training}
    found = Client().post(TOKENS, body)
    names = ("rows", "tokens", "trained_tokens", "truncated_rows", "dropped_rows", "sequences")
    put(found, as_json, "\n".join(f"{name}\t{found[name]}" for name in names))


@checkpoints.command("list")
def list_checkpoints(job: JobName, as_json: AsJson = False) -> None:
    """List a job's checkpoints, the newest first."""
    client = Client()
    found = client.get(f"{JOBS}/{client.job(job)['id']}/checkpoints", limit=100)["data"]
    rows = ([c["step_number"], c["size_bytes"], json.dumps(c["metrics"])] for c in found)
    put_rows(found, as_json, rows)


@checkpoints.command("show")
def show_checkpoint(job: JobName, step: int, as_json: AsJson = False) -> None:
    """Show a checkpoint and its files."""
    client = Client()
    found = client.get(f"{JOBS}/{client.job(job)['id']}/checkpoints/{step}")
    rows = (f"{f['path']}\t{f['size_bytes']}\t{f['sha256']}" for f in found["files"])
    put(found, as_json, "\n".join(rows))


@checkpoints.command("verify")
def verify(
    job: JobName, step: int, folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)]
) -> None:
    """Compare a folder on this machine with a checkpoint, file by file."""
    client = Client()
    found = client.get(f"{JOBS}/{client.job(job)['id']}/checkpoints/{step}")
    bad = [f["path"] for f in found["files"] if f["part"] == "weights" and not _is_same(folder, f)]
    if bad:
        raise UserError(f"Not as it was published: {', '.join(bad)}", f"tuneyard pull {job}")
    say("All files are as they were published.")


@models.command("list")
def list_models(only_ids: OnlyIds = False, as_json: AsJson = False) -> None:
    """List the models of this server: folders, and what jobs have trained."""
    found = Client().get("/v1/models")["data"]
    rows = ([model["id"], model["owned_by"]] for model in found)
    put_rows(found, as_json, rows, only_ids=only_ids)


@models.command("delete")
def delete_model(model: str, as_json: AsJson = False) -> None:
    """Delete what a job has trained, as `jobs/<id>` or `jobs/<id>.step-N`."""
    found = Client().delete(f"/v1/models/{quote(model, safe='/')}")
    put(found, as_json, found["id"])


@workers.command("list")
def list_workers(as_json: AsJson = False) -> None:
    """List the workers that were seen, the latest first."""
    found = Client().get("/v1/workers")["data"]
    rows = ([w["id"], w["slots"], f"seen {w['heartbeat_age_seconds']:.0f} s ago"] for w in found)
    put_rows(found, as_json, rows)


def call_api(
    method: str,
    path: str,
    data: Annotated[str | None, typer.Option("--data", "-d", help="A JSON body.")] = None,
) -> None:
    """Call the API directly, as in `tuneyard api GET /v1/models`."""
    try:
        body = json.loads(data) if data is not None else None
    except json.JSONDecodeError as error:
        raise UserError(f"--data is not JSON: {error}", code=Exit.USAGE) from error
    put(Client().call(method.upper(), path, body), True, "")


def doctor(as_json: AsJson = False) -> None:
    """Look at what a job needs; exits 1 when something is missing."""
    found = list(_checks(Client()))
    lines = [f"{'✓' if good else '✕'} {name}: {said}" for name, good, said in found]
    objects = [{"check": name, "ok": good, "said": said} for name, good, said in found]
    put(objects, as_json, "\n".join(lines))
    if not all(good for _, good, _ in found):
        sys.exit(Exit.ERROR)


def _checks(client: Client) -> Iterator[tuple[str, bool, str]]:
    version = importlib.metadata.version("tuneyard")
    yield "command", True, f"tuneyard {version}, Python {sys.version.split()[0]}"
    free = shutil.disk_usage(Path.cwd()).free
    yield "disk", free > LOW_BYTES, f"{free / 1e9:.1f} GB free in this folder"
    try:
        client.get("/readyz")
    except UserError as error:
        yield "server", False, f"{error.message} {error.hint}".strip()
        return
    yield "server", True, client.url
    yield _asked("key", lambda: f"{len(client.get('/v1/models')['data'])} models to train")
    yield _asked("worker", lambda: _workers(client))


def _asked(name: str, ask: Callable[[], str]) -> tuple[str, bool, str]:
    try:
        return name, True, ask()
    except UserError as error:
        return name, False, error.message


def _workers(client: Client) -> str:
    seen = [w for w in client.get("/v1/workers")["data"] if w["heartbeat_age_seconds"] < 60]
    if not seen:
        raise UserError("no worker was seen within a minute: jobs would wait")
    return ", ".join(f"{w['id']} ({w['facts'].get('device', 'cpu')})" for w in seen)


def _is_same(folder: Path, entry: dict[str, Any]) -> bool:
    path = folder / entry["path"]
    if not path.is_file():
        return False
    with path.open("rb") as file:
        digest: str = entry["sha256"]
        return hashlib.file_digest(file, "sha256").hexdigest() == digest
