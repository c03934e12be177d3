"""`tuneyard api`, `doctor` and `completion`: for who looks closer."""

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer.completion import get_completion_script  # type: ignore[attr-defined]

from cli.client import Client
from cli.config import config_file
from cli.errors import Exit, UserError
from cli.mending import is_open, mend
from cli.options import AsJson
from cli.output import put, say


class Shell(StrEnum):
    """Those that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


LOW_BYTES = 5 * 1024**3


def call_api(
    method: str,
    path: str,
    data: Annotated[str | None, typer.Option("--data", "-d", help="A JSON body.")] = None,
) -> None:
    """Call the API directly, as in `tuneyard api GET /v1/models`.

    Examples:
    tuneyard api GET "/v1/fine_tuning/jobs?limit=1"
    tuneyard api POST /v1/keys -d '{"name": "laptop"}'
    """
    try:
        body = {} if data is None else {"json": json.loads(data)}
    except json.JSONDecodeError as error:
        raise UserError(f"--data is not JSON: {error}", code=Exit.USAGE) from error
    put(Client().call(method.upper(), path, **body), True, "")


def completion(shell: Annotated[Shell, typer.Argument()]) -> None:
    """Print the script that completes commands and names in a shell.

    Examples:
    tuneyard completion bash > ~/.local/share/bash-completion/completions/tuneyard
    tuneyard completion zsh > ~/.zfunc/_tuneyard
    tuneyard completion fish > ~/.config/fish/completions/tuneyard.fish
    """
    names = {"prog_name": "tuneyard", "complete_var": "_TUNEYARD_COMPLETE"}
    script = get_completion_script(shell=shell.value, **names)
    put(script, False, script)


def doctor(
    is_fixing: Annotated[
        bool, typer.Option("--fix", help="Mend what can be mended without a loss.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at what a job needs; exits 1 when something is missing.

    --fix takes the config file away from other users' eyes, and forgets uploads that are over.

    Examples:
    tuneyard doctor
    tuneyard doctor --fix
    """
    if is_fixing:
        for said in mend():
            say(f"✓ {said}")
    found = list(_checks(Client()))
    lines = [f"{'✓' if good else '✕'} {name}: {said}" for name, good, said in found]
    objects = [{"check": name, "ok": good, "said": said} for name, good, said in found]
    put(objects, as_json, "\n".join(lines))
    if not all(good for _, good, _ in found):
        sys.exit(Exit.ERROR)


def _checks(client: Client) -> Iterator[tuple[str, bool, str]]:
    version = importlib.metadata.version("tuneyard")
    yield "command", True, f"tuneyard {version}, Python {sys.version.split()[0]}"
    kept = config_file()
    yield "config", not is_open(kept), f"{kept} {_readers(kept)}"
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


def _readers(kept: Path) -> str:
    if not kept.exists():
        return "is not there; `tuneyard login` makes it"
    return "can be read by others; --fix" if is_open(kept) else "is for you alone"
