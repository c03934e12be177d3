"""`login`, `logout`, `whoami` and `config`: which server, with which key."""

import sys
from typing import Annotated

import typer

from cli.client import Client
from cli.config import (
    NAMES,
    Connection,
    check_name,
    clean_url,
    config_file,
    connection,
    read_config,
    write_config,
)
from cli.errors import Exit, UserError
from cli.flags import flags
from cli.options import AsJson
from cli.output import put, put_rows, say

config = typer.Typer(no_args_is_help=True, help="What `login` keeps: url and key.")
SHOWN_CHARACTERS = 8


def login(
    url: Annotated[str | None, typer.Argument(help="Default: the server in use.")] = None,
) -> None:
    """Keep a server and a key for it in a file that only you can read.

    The key is asked for, or read from standard input where that is no terminal.

    Examples:
    tuneyard login https://tuneyard.example.org
    tuneyard login http://127.0.0.1:8080 < key.txt
    """
    to = clean_url(url) if url else connection().url
    key = _read_key()
    client = Client(Connection(to, key or None, "login"))
    try:
        client.get("/v1/models")
    except UserError as error:
        raise UserError(
            f"{error.message} Nothing was kept.", error.hint, code=error.code
        ) from error
    write_config({"url": to} | ({"key": key} if key else {}))
    say(f"✓ {to} is kept in {config_file()}")
    _warn_of_environment(to)


def logout() -> None:
    """Forget the key that `login` kept. The key itself stays valid.

    Examples:
    tuneyard logout
    """
    kept = read_config()
    if kept.pop("key", None) is None:
        say("There was no key.")
        return
    write_config(kept)
    say("✓ The key is forgotten here. `tuneyard keys revoke` on the server ends it.")


def whoami(as_json: AsJson = False) -> None:
    """Show the server, the project of the key, and what says so.

    Examples:
    tuneyard whoami
    """
    to = connection()
    found = Client(to).get("/hf/api/whoami-v2")
    shown = {
        "url": to.url,
        "project": found["name"],
        "url_from": to.source,
        "has_key": bool(to.key),
    }
    if as_json:
        put(shown, True, "")
    else:
        put_rows([shown], False, shown.items())


@config.command("list")
def list_config(as_json: AsJson = False) -> None:
    """List what is kept; of a key its beginning.

    Examples:
    tuneyard config list
    """
    kept = {name: _shown(name, value) for name, value in read_config().items()}
    put_rows([kept] if as_json else [], as_json, kept.items())


@config.command("get")
def get_config(name: Annotated[str, typer.Argument(help="url or key")]) -> None:
    """Print what is kept under a name.

    Examples:
    TUNEYARD_API_KEY=$(tuneyard config get key) python train.py
    """
    value = read_config().get(check_name(name))
    if value is None:
        raise UserError(f"No {name} is kept.", f"tuneyard config set {name} …", code=Exit.NOT_FOUND)
    put(value, False, value)


@config.command("set")
def set_config(
    name: Annotated[str, typer.Argument(help="url or key")],
    value: Annotated[str | None, typer.Argument(help="A key is better read from a file.")] = None,
) -> None:
    """Keep something; without VALUE a key is asked for. An empty one is forgotten.

    Examples:
    tuneyard config set url https://tuneyard.example.org
    tuneyard config set key < key.txt
    """
    kept = read_config()
    if check_name(name) == "key":
        kept["key"] = value if value is not None else _read_key()
    elif value is None:
        raise UserError("Which url?", code=Exit.USAGE)
    else:
        new = clean_url(value) if value else ""
        if new != kept.get("url"):
            # A key must not reach another server than the one that it is for.
            kept.pop("key", None)
        kept["url"] = new
    write_config({name: kept[name] for name in NAMES if kept.get(name)})


def _read_key() -> str:
    if flags.may_ask():
        return str(
            typer.prompt(
                "API key (empty for none)", hide_input=True, default="", show_default=False
            )
        ).strip()
    if flags.is_without_input:
        return ""
    return sys.stdin.readline().strip()


def _warn_of_environment(url: str) -> None:
    in_use = connection()
    if in_use.url != url:
        say(f"But {in_use.source} says {in_use.url}, and wins.")


def _shown(name: str, value: str) -> str:
    return f"{value[:SHOWN_CHARACTERS]}…" if name == "key" else value
