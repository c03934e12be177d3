"""`tuneyard files`."""

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli.client import TOKENS, Client
from cli.options import AsJson, OnDisk, OnlyIds
from cli.output import put, put_rows, say

files = typer.Typer(no_args_is_help=True, help="Data to train on.")


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
