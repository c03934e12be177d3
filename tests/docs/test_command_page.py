"""docs/command.md lists the command as it is."""

import re
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperGroup

from cli.errors import Exit
from cli.main import app

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "command.md").read_text(encoding="utf-8")


def commands(group: TyperGroup, name: str = "tuneyard") -> Iterator[tuple[str, str]]:
    for verb, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{name} {verb}")
        elif not command.hidden:
            yield f"{name} {verb}", (command.help or "").splitlines()[0]


def test_page_lists_every_command_in_its_own_words() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)

    assert re.findall(r"^\| `(tuneyard [^`]+)` \| (.+) \|$", PAGE, re.M) == list(commands(root))


def test_page_lists_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z_]+) \|", PAGE, re.M)

    assert rows == [(str(int(code)), code.name.lower()) for code in Exit]
