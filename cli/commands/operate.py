"""What operators run: `up`, `server`, `worker`, `db`, `keys`. Each becomes another program."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

database = typer.Typer(no_args_is_help=True, help="The database of DATABASE_URL.")
keys = typer.Typer(no_args_is_help=True, help="API keys, on the machine of the server.")


def up(
    home: Annotated[Path | None, typer.Option(help="Folder of everything that is kept.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535)] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
) -> None:
    """Start the whole service on this machine; Ctrl-C stops it.

    Examples:
    tuneyard up
    tuneyard up --home ./yard --port 9000
    """
    _replace_by("cli.embedded", *_given(home=home, port=port, host=host))


def server(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Run an API server alone, by the settings in the environment; there may be any number.

    Examples:
    tuneyard db upgrade && tuneyard server --host 0.0.0.0
    """
    address = ("--host", host, "--port", str(port))
    limits = ("--no-access-log", "--timeout-graceful-shutdown", "5")
    _replace_by("uvicorn", "--factory", "app.main:create_app", *address, *limits)


def worker() -> None:
    """Run a worker alone, by the settings in the environment; one a machine.

    Examples:
    tuneyard worker
    """
    slots = os.environ.get("WORKER_SLOTS", "1")
    threads = ("-P", "threads", "-c", slots, "--loglevel", "INFO", "--without-gossip")
    _replace_by("celery", "--quiet", "-A", "worker.celery_app", "worker", *threads)


@database.command("upgrade")
def db_upgrade(revision: str = "head") -> None:
    """Apply the migrations that are missing.

    Examples:
    tuneyard db upgrade
    """
    _replace_by("cli.database", "upgrade", revision)


@database.command("downgrade")
def db_downgrade(revision: str) -> None:
    """Take migrations back down to a revision; `base` empties the database.

    Examples:
    tuneyard db downgrade 0012
    """
    _replace_by("cli.database", "downgrade", revision)


@keys.command("create")
def keys_create(
    name: str,
    scope: Annotated[str, typer.Option(help="read, write or admin.")] = "write",
    project: Annotated[str | None, typer.Option(help="Made if it is not there yet.")] = None,
    days: Annotated[float | None, typer.Option(min=0, help="It ends after so many days.")] = None,
) -> None:
    """Make a key and print it, once. From the first key on nobody comes in without one.

    Examples:
    tuneyard keys create laptop
    tuneyard keys create ci --scope write --project team-b --days 30
    """
    _replace_by("cli.keys", "create", name, *_given(scope=scope, project=project, days=days))


@keys.command("list")
def keys_list(project: str | None = None) -> None:
    """List the keys of a project.

    Examples:
    tuneyard keys list
    """
    _replace_by("cli.keys", "list", *_given(project=project))


@keys.command("revoke")
def keys_revoke(key: str, project: str | None = None) -> None:
    """End a key, by its id.

    Examples:
    tuneyard keys revoke key_0123456789abcdef01234567
    """
    _replace_by("cli.keys", "revoke", key, *_given(project=project))


def _given(**options: object) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items() if value is not None]


def _replace_by(module: str, *arguments: str) -> None:
    """Become another program: the server's own code is not loaded into this one."""
    # -P: a folder named `core` in the user's folder is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])
