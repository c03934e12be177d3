"""What is written in code blocks: which are run, and what the others must hold to."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from typer import Context
from typer.core import TyperCommand, TyperGroup

from cli.main import app

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(set(DOCS.glob("*.md")) - {DOCS / "benchmarks.md"})]
"""Benchmarks take long, and are run by hand."""

NOT_RUN = {
    "docker": "there is no Docker in the tests",
    "gpu": "there is no GPU in the tests, nor a program that wants one",
    "root": "it would change the machine",
    "host": "it is of another machine, or runs until it is stopped",
}
"""Words after the language of a block that is not run, and why."""

_BLOCK = re.compile(r"^```(\w*) ?(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the word after it, and its text."""

    language: str
    word: str
    text: str

    @property
    def is_run(self) -> bool:
        """Whether the test of its page runs it."""
        return self.language in ("bash", "python") and not self.word

    @property
    def commands(self) -> list[str]:
        """Lines that somebody would type; of a console those after the prompt."""
        text = self.text.replace("\\\n", " ")
        if self.language == "bash":
            return text.splitlines()
        return re.findall(r"^\$ (.+)$", text, re.MULTILINE) if self.language == "console" else []


def blocks(page: Path) -> list[Block]:
    """All of a page, in its order."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def script(page: Path) -> str:
    """What a reader of the page runs from its first line to its last, as one script.

    `make` would install everything again; its targets are looked up instead.
    """
    parts = ["set -euo pipefail"]
    for block in blocks(page):
        if block.is_run and block.language == "python":
            parts.append(f"python -c {shlex.quote(block.text)}")
        elif block.is_run:
            parts.append(re.sub(r"^(make|source) .*\n", "", block.text, flags=re.MULTILINE))
    return "\n".join(parts)


def tuneyard_calls(text: str) -> Iterator[list[str]]:
    """The arguments of every `tuneyard` in a line of shell."""
    for part in re.split(r"&&|\|\||[|;()&<>]", text.split(" # ")[0]):
        _, found, rest = re.sub(r"^\s*(\w+=\S+\s+)*", "", part).partition("tuneyard ")
        if found and not _:
            yield shlex.split(rest)


def parse(arguments: list[str]) -> None:
    """Fails unless the command would take these arguments; nothing is run."""
    command, context, rest = _find(arguments)
    # Options that want an existing file get one.
    rest = [re.sub(r"^\S+\.jsonl$", __file__, one) for one in rest]
    command.make_context("tuneyard", rest, parent=context)


def look_up(arguments: list[str]) -> None:
    """Fails unless there is such a command with these options, whatever else it needs."""
    command, _, rest = _find(arguments)
    known = {option for parameter in command.params for option in parameter.opts}
    assert {one for one in rest if re.match("--?[a-z]", one)} <= known


def _find(arguments: list[str]) -> tuple[TyperCommand | TyperGroup, Context | None, list[str]]:
    command, context = typer.main.get_command(app), None
    while isinstance(command, TyperGroup) and arguments:
        context = context or typer.Context(command)
        _, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command = found
    return command, context, arguments
