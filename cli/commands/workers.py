"""`tuneyard workers`."""

import typer

from cli.client import Client
from cli.options import AsJson
from cli.output import put_rows

workers = typer.Typer(no_args_is_help=True, help="The machines that train.")


@workers.command("list")
def list_workers(as_json: AsJson = False) -> None:
    """List the workers that were seen, the latest first."""
    found = Client().get("/v1/workers")["data"]
    rows = ([w["id"], w["slots"], f"seen {w['heartbeat_age_seconds']:.0f} s ago"] for w in found)
    put_rows(found, as_json, rows)
