"""What the command does without a service."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from cli.embedded.broker import free_port
from cli.errors import Exit
from cli.main import app
from tests.cli.conftest import run

HEAVY = {"torch", "transformers", "sqlalchemy", "fastapi", "uvicorn", "celery", "pydantic"}


def test_the_command_loads_no_server_code() -> None:
    code = "import cli.main, sys; print(*{name.partition('.')[0] for name in sys.modules})"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert not HEAVY & set(loaded.stdout.split())


def commands(group: TyperGroup) -> Iterator[tuple[str, str]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command)
        else:
            yield name, command.help or ""


def test_every_help_has_an_example_of_the_command() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)

    without = [name for name, text in commands(root) if "Examples:\ntuneyard" not in text]

    assert without == ["get"]  # its example has the command within another one


def test_help_takes_little_time(tmp_path: Path) -> None:
    """Of a processor, the best of five: how long it takes a busy machine says nothing."""

    def seconds() -> float:
        before = os.times()
        run(tmp_path, "--help")
        after = os.times()
        user = after.children_user - before.children_user
        return user + after.children_system - before.children_system

    assert any(seconds() < 0.5 for _ in range(5))


COMMANDS = ("", "db", "submit", "jobs create")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(tmp_path: Path, command: str) -> None:
    done = run(tmp_path, *command.split(), "--help")

    assert done.returncode == 0
    assert "Usage: tuneyard" in done.stdout


def test_no_server_is_one_sentence_and_one_next_step(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    done = run(tmp_path, "list", TUNEYARD_URL=url)

    assert done.returncode == Exit.NO_SERVER
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith(f"Error: No server at {url} (")
    assert second == "Start one with `tuneyard up`, or set TUNEYARD_URL."


def test_a_setting_without_a_value_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text('{"text": "good"}\n')

    done = run(tmp_path, "submit", "x", "-f", "text.jsonl", "--set", "learning_rate")

    assert done.returncode == Exit.USAGE
    assert "--set learning_rate: expected name=value." in done.stderr


def test_the_database_goes_up_and_down(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"

    up = run(tmp_path, "db", "upgrade", DATABASE_URL=url)
    down = run(tmp_path, "db", "downgrade", "base", DATABASE_URL=url)
    nowhere = run(tmp_path, "db", "downgrade", "no-such-revision", DATABASE_URL=url)
    unknown = run(tmp_path, "db", "upgrade", DATABASE_URL="mysql://x")

    assert (up.returncode, down.returncode) == (0, 0), up.stderr + down.stderr
    assert nowhere.returncode == 1
    assert "no-such-revision" in nowhere.stderr
    assert "DATABASE_URL: " in unknown.stderr
    assert "Traceback" not in nowhere.stderr + unknown.stderr
