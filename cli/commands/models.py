"""`tuneyard models`."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from cli.client import Client
from cli.commands.checkpoints import take_home
from cli.errors import Exit, UserError
from cli.options import AsJson, ModelName, OnlyIds
from cli.output import put, put_rows

models = typer.Typer(no_args_is_help=True, help="What can be trained, and what was.")


@models.command("list")
def list_models(only_ids: OnlyIds = False, as_json: AsJson = False) -> None:
    """List the models of this server: folders, and what jobs have trained.

    Examples:
    tuneyard models list
    """
    found = Client().get("/v1/models")["data"]
    rows = ([model["id"], model["owned_by"]] for model in found)
    put_rows(found, as_json, rows, head=("MODEL", "OF"), only_ids=only_ids)


@models.command("pull")
def pull_model(
    model: ModelName,
    to: Annotated[Path | None, typer.Option(help="Default: a folder with the job's id.")] = None,
) -> None:
    """Download what a job has trained, as `jobs/<id>` or `jobs/<id>.step-N`; verified.

    Examples:
    tuneyard models pull jobs/ftjob-0123456789abcdef01234567.step-500 --to faq
    """
    kind, _, rest = model.partition("/")
    job_id, _, step = rest.partition(".step-")
    if kind != "jobs" or (step and not step.isdigit()):
        raise UserError(
            f"{model} was not trained here.",
            "Folders of the server and models of a Hub are downloaded with `hf download`.",
            code=Exit.USAGE,
        )
    take_home(Client(), job_id, int(step) if step else None, to)


@models.command("delete")
def delete_model(model: ModelName, as_json: AsJson = False) -> None:
    """Delete what a job has trained, as `jobs/<id>` or `jobs/<id>.step-N`.

    Examples:
    tuneyard models delete jobs/ftjob-0123456789abcdef01234567.step-500
    """
    found = Client().delete(f"/v1/models/{quote(model, safe='/')}")
    put(found, as_json, found["id"])


models.command("rm", hidden=True)(delete_model)
