"""`tuneyard api` and `tuneyard doctor`: for when something is not as it should be."""

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client
from cli.errors import Exit, UserError
from cli.options import AsJson
from cli.output import put

LOW_BYTES = 5 * 1024**3


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
