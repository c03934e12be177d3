"""`tuneyard models`."""

from urllib.parse import quote

import typer

from cli.client import Client
from cli.options import AsJson, OnlyIds
from cli.output import put, put_rows

models = typer.Typer(no_args_is_help=True, help="What can be trained.")


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
