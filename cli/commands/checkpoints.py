"""`tuneyard checkpoints`, and `pull`."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import JOBS, Client
from cli.errors import Exit, UserError
from cli.options import AsJson, JobName
from cli.output import put, put_rows, say

checkpoints = typer.Typer(no_args_is_help=True, help="What jobs have learned.")


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


@checkpoints.command("download")
def pull(
    job: JobName,
    step: Annotated[int | None, typer.Option(help="Default: the newest checkpoint.")] = None,
    to: Annotated[Path | None, typer.Option(help="Default: a folder with the job's id.")] = None,
) -> None:
    """Download what a job has learned; each file is verified."""
    client = Client()
    job_id = client.job(job)["id"]
    checkpoint = _checkpoint(client, job_id, step)
    folder = (to or Path(job_id)).resolve()
    for entry in checkpoint["files"]:
        if entry["part"] != "weights":
            continue
        target = (folder / entry["path"]).resolve()
        if not target.is_relative_to(folder):
            raise UserError(f"The server names a file outside of {folder}: {entry['path']}")
        path = f"{JOBS}/{job_id}/checkpoints/{checkpoint['step_number']}/files/{entry['path']}"
        client.download(path, target, size=entry["size_bytes"], sha256=entry["sha256"])
        say(f"✓ {entry['path']}  {entry['size_bytes']:,} bytes, verified")
    sys.stdout.write(f"{folder}\n")


def _checkpoint(client: Client, job_id: str, step: int | None) -> Any:
    if step is not None:
        return client.get(f"{JOBS}/{job_id}/checkpoints/{step}")
    newest = client.get(f"{JOBS}/{job_id}/checkpoints", limit=1)["data"]
    if not newest:
        raise UserError(
            "The job has saved nothing yet.", f"tuneyard watch {job_id}", code=Exit.NOT_FOUND
        )
    return newest[0]


def _is_same(folder: Path, entry: dict[str, Any]) -> bool:
    path = folder / entry["path"]
    if not path.is_file():
        return False
    with path.open("rb") as file:
        digest: str = entry["sha256"]
        return hashlib.file_digest(file, "sha256").hexdigest() == digest
