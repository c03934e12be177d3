"""`tuneyard up`: ready, stopped, killed, restarted, refused."""

import json
import signal
import socket
from pathlib import Path

import psutil
import pytest

from examples.tiny_model import make_tiny_model, write_pydoc_text
from tests.cli.conftest import Up, is_ready, run, until

pytestmark = [pytest.mark.training, pytest.mark.process]


def test_a_second_up_of_the_same_home_names_the_first(running_up: Up) -> None:
    up = running_up
    assert up.process is not None

    second = run(up.cwd, "up", "--home", str(up.home), "--port", str(up.port))

    assert second.returncode == 1
    assert f"already runs from {up.home} (process {up.process.pid})" in second.stderr
    assert is_ready(up.url)


def test_a_part_that_dies_is_started_again(running_up: Up) -> None:
    api = _part(running_up, "app.main:create_app")

    api.kill()

    news = _next_news(running_up, "api ended")
    assert news == "api ended with code 137; starting it again in 1 s\n"
    until(lambda: is_ready(running_up.url))


def test_a_part_whose_guard_is_killed_goes_with_it_and_is_started_again(running_up: Up) -> None:
    broker = next(process for process in running_up.processes() if "valkey" in process.exe())
    guard = broker.parent()
    assert guard is not None

    guard.kill()

    until(lambda: not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE)
    assert "starting it again" in _next_news(running_up, "broker ended")


def test_ctrl_c_stops_everything_cleanly(running_up: Up) -> None:
    """The last of those that share it. All that was started again is there to be stopped."""
    up = running_up
    until(lambda: is_ready(up.url))
    # Of up, its three parts and their guards.
    until(lambda: len(up.processes()) >= 7)

    up.send(signal.SIGINT)
    code, rest, _ = up.wait()

    assert (code, rest) == (0, "")
    assert up.processes() == []


def test_a_killed_up_leaves_no_process_and_its_job_goes_on_in_the_next(up: Up) -> None:
    make_tiny_model("llama", up.home / "models" / "tiny-llama")
    write_pydoc_text(up.cwd / "text.jsonl", rows=100)
    up.start()
    settings = {"max_steps": 150, "save_steps": 20, "logging_steps": 1, "max_length": 64}
    sets = [f"--set={name}={value}" for name, value in settings.items()]
    job_id = up.run("submit", "local/tiny-llama", "-f", "text.jsonl", *sets).stdout.strip()
    until(lambda: json.loads(up.run("show", job_id, "--json").stdout)["progress"]["step"] >= 25)

    up.send(signal.SIGKILL)
    up.wait()
    until(lambda: up.processes() == [])
    up.start()
    watched = up.run("watch", job_id)

    assert watched.returncode == 0, watched.stderr
    job = json.loads(up.run("show", job_id, "--json").stdout)
    assert len(job["attempts"]) == 2
    assert job["attempts"][1]["resumed_from_step"] >= 20


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        refused = run(tmp_path, "up", "--home", str(tmp_path / "home"), "--port", str(port))

    assert refused.returncode == 1
    assert f"Port {port} on 127.0.0.1 cannot be used: Address already in use." in refused.stderr
    assert not (tmp_path / "home" / "tuneyard.db").exists()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORKER_SLOTS": "many"}, "WORKER_SLOTS: "),
        ({"TUNEYARD_HOST": "0.0.0.0"}, "Set TUNEYARD_API_KEY"),
        ({"MODEL_ROOTS": "/no/such/folder"}, "/no/such/folder is not a folder"),
    ],
)
def test_a_bad_setting_is_named_before_anything_starts(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    refused = run(tmp_path, "up", "--home", str(tmp_path / "home"), **environment)

    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "home" / "tuneyard.db").exists()


def _part(up: Up, argument: str) -> psutil.Process:
    """The process itself, not its guard."""
    return next(
        process
        for process in up.processes()
        if argument in process.cmdline() and "cli.embedded.guard" not in process.cmdline()
    )


def _next_news(up: Up, words: str) -> str:
    """The next line about something that ended."""
    assert up.process is not None
    assert up.process.stderr is not None
    return next(line for line in up.process.stderr if words in line)
