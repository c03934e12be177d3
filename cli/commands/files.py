"""`tuneyard files`."""

import json
from typing import Annotated, Any

import typer

from cli.client import TOKENS, Client
from cli.options import AsJson, FileName, ModelName, OnDisk, OnlyIds
from cli.output import put, put_rows, say
from cli.transfer import upload as upload_file

files = typer.Typer(no_args_is_help=True, help="Data to train on.")


@files.command("upload")
def upload(file: OnDisk, as_json: AsJson = False) -> None:
    """Upload a file; every row is checked before it is accepted.

    A large one is sent in parts; one that broke within the last hour is gone on with.

    Examples:
    tuneyard files upload train.jsonl
    """
    found = upload_file(Client(), file)
    report = found["report"]
    say(f"{report['rows']:,} rows of the shape {report['shape']}, {found['bytes']:,} bytes")
    put(found, as_json, found["id"])


@files.command("check")
def check(file: OnDisk, as_json: AsJson = False) -> None:
    """Check every row of a file, and keep nothing: it is uploaded, reported on and deleted.

    Exits 12 when it cannot be trained on.

    Examples:
    tuneyard files check train.jsonl
    """
    client = Client()
    found = upload_file(client, file)
    client.delete(f"/v1/files/{found['id']}")
    say(f"✓ {file.name} can be trained on.")
    put(found["report"], as_json, _report(found["report"]))


@files.command("list")
def list_files(only_ids: OnlyIds = False, as_json: AsJson = False) -> None:
    """List the files, the newest first.

    Examples:
    tuneyard files list
    """
    found = Client().get("/v1/files")["data"]
    rows = ([f["id"], f["purpose"], f["bytes"], f["filename"]] for f in found)
    head = ("FILE", "PURPOSE", "BYTES", "NAME")
    put_rows(found, as_json, rows, head=head, only_ids=only_ids)


@files.command("show")
def show_file(file: FileName, as_json: AsJson = False) -> None:
    """Show what was found in a file.

    Examples:
    tuneyard files show train.jsonl
    """
    found = Client().file(file)
    put(found, as_json, json.dumps(found["report"] or found, indent=2))


@files.command("delete")
def delete_file(file: FileName, as_json: AsJson = False) -> None:
    """Delete a file that no job in progress needs.

    Examples:
    tuneyard files delete file-0123456789abcdef01234567
    """
    client = Client()
    found = client.delete(f"/v1/files/{client.file(file)['id']}")
    put(found, as_json, found["id"])


@files.command("tokens")
def count_tokens(
    file: FileName,
    model: ModelName,
    max_length: Annotated[int | None, typer.Option(min=1)] = None,
    packing: Annotated[bool, typer.Option("--packing")] = False,
    as_json: AsJson = False,
) -> None:
    """Count a file's tokens for MODEL: what is read, learned, cut and padded.

    Examples:
    tuneyard files tokens train.jsonl local/tiny --max-length 1024
    """
    client = Client()
    training: dict[str, Any] = {"packing": True} if packing else {}
    if max_length is not None:
        training["max_length"] = max_length
    body = {"model": model, "training_file": client.file(file)["id"], "training": training}
    found = client.post(TOKENS, body)
    names = ("rows", "tokens", "trained_tokens", "truncated_rows", "dropped_rows", "sequences")
    put(found, as_json, "\n".join(f"{name}\t{found[name]}" for name in names))


def _report(report: dict[str, Any]) -> str:
    shown = {name: value for name, value in report.items() if not isinstance(value, list | dict)}
    return "\n".join(f"{name}\t{value}" for name, value in shown.items() if value is not None)
