"""`tuneyard checkpoints`, and `pull`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import JOBS, Client
from cli.errors import Exit, UserError
from cli.options import AsJson, JobName
from cli.output import is_terminal, put, put_rows, say
from cli.transfer import download, file_sha256
from cli.words import size_in_words

checkpoints = typer.Typer(no_args_is_help=True, help="What jobs have learned.")
ALL = 10_000
HEAD = ("STEP", "SIZE", "TRAIN LOSS", "EVAL LOSS", "STATE")


@checkpoints.command("list")
def list_checkpoints(job: JobName, as_json: AsJson = False) -> None:
    """List a job's checkpoints, the newest first.

    Examples:
    tuneyard checkpoints list @last
    """
    client = Client()
    found = client.pages(f"{JOBS}/{client.job(job)['id']}/checkpoints", limit=ALL)
    if is_terminal():
        put_rows(found, as_json, map(_cells, found), head=HEAD)
        return
    rows = ([c["step_number"], c["size_bytes"], json.dumps(c["metrics"])] for c in found)
    put_rows(found, as_json, rows)


@checkpoints.command("show")
def show_checkpoint(job: JobName, step: int, as_json: AsJson = False) -> None:
    """Show a checkpoint and its files: path, bytes, SHA-256.

    Examples:
    tuneyard checkpoints show @last 500
    """
    client = Client()
    found = client.get(f"{JOBS}/{client.job(job)['id']}/checkpoints/{step}")
    rows = (f"{f['path']}\t{f['size_bytes']}\t{f['sha256']}" for f in found["files"])
    put(found, as_json, "\n".join(rows))


@checkpoints.command("verify")
def verify(
    job: JobName, step: int, folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)]
) -> None:
    """Compare a folder on this machine with a checkpoint, file by file.

    Examples:
    tuneyard checkpoints verify faq-v2 500 ./faq-v2
    """
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
    """Download what a job has learned; each file is verified.

    A download that broke is gone on with.

    Examples:
    tuneyard pull @last --to my-model
    tuneyard checkpoints download faq-v2 --step 500
    """
    client = Client()
    take_home(client, client.job(job)["id"], step, to)


def take_home(client: Client, job_id: str, step: int | None, to: Path | None) -> None:
    """Download a checkpoint's weights, and print the folder."""
    checkpoint = _checkpoint(client, job_id, step)
    folder = (to or Path(job_id)).resolve()
    for entry in checkpoint["files"]:
        if entry["part"] != "weights":
            continue
        target = (folder / entry["path"]).resolve()
        if not target.is_relative_to(folder):
            raise UserError(f"The server names a file outside of {folder}: {entry['path']}")
        path = f"{JOBS}/{job_id}/checkpoints/{checkpoint['step_number']}/files/{entry['path']}"
        download(client, path, target, size=entry["size_bytes"], sha256=entry["sha256"])
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
    return path.is_file() and file_sha256(path) == str(entry["sha256"])


def _cells(checkpoint: dict[str, Any]) -> list[str]:
    losses = [checkpoint["metrics"].get(name) for name in ("train_loss", "valid_loss")]
    shown = [f"{loss:.4f}" if loss is not None else "-" for loss in losses]
    state = "damaged" if checkpoint["is_corrupt"] else "verified"
    return [
        f"{checkpoint['step_number']:,}",
        size_in_words(checkpoint["size_bytes"]),
        *shown,
        state,
    ]
