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


def test_ctrl_c_stops_everything_cleanly(up: Up) -> None:
    """Also where the user's own folder has packages of our names, which are none of ours."""
    for name in ("app", "cli", "core", "worker"):
        (up.cwd / name).mkdir()
        (up.cwd / name / "__init__.py").write_text("raise ImportError('the user\\'s own')\n")

    line = up.start()
    parts = up.processes()
    up.send(signal.SIGINT)
    code, rest, _ = up.wait()

    assert line.startswith(f"Tuneyard is ready: {up.url} ")
    assert len(parts) >= 7  # up, and three parts with their guards
    assert (code, rest) == (0, "")
    assert up.processes() == []


def test_a_killed_up_leaves_no_process_and_its_job_goes_on_in_the_next(up: Up) -> None:
    make_tiny_model("llama", up.home / "models" / "tiny-llama")
    write_pydoc_text(up.cwd / "text.jsonl", rows=100)
    up.start()
    settings = {"max_steps": 300, "save_steps": 50, "logging_steps": 1, "max_length": 64}
    sets = [f"--set={name}={value}" for name, value in settings.items()]
    job_id = up.run("submit", "local/tiny-llama", "-f", "text.jsonl", *sets).stdout.strip()
    until(lambda: json.loads(up.run("show", job_id, "--json").stdout)["progress"]["step"] >= 60)

    up.send(signal.SIGKILL)
    up.wait()
    until(lambda: up.processes() == [])
    up.start()
    watched = up.run("watch", job_id)

    assert watched.returncode == 0, watched.stderr
    job = json.loads(up.run("show", job_id, "--json").stdout)
    assert len(job["attempts"]) == 2
    assert job["attempts"][1]["resumed_from_step"] >= 50


def test_a_part_that_dies_is_started_again(up: Up) -> None:
    up.start()
    api = _part(up, "app.main:create_app")

    api.kill()

    assert up.process is not None
    assert up.process.stderr is not None
    news = next(line for line in up.process.stderr if "api ended" in line)
    assert news == "api ended with code 137; starting it again in 1 s\n"
    until(lambda: is_ready(up.url))


def test_a_part_whose_guard_is_killed_goes_with_it_and_is_started_again(up: Up) -> None:
    up.start()
    broker = next(process for process in up.processes() if "valkey" in process.exe())
    guard = broker.parent()
    assert guard is not None

    guard.kill()

    until(lambda: not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE)
    assert up.process is not None
    assert up.process.stderr is not None
    assert any("starting it again" in line for line in up.process.stderr)


def test_a_second_up_of_the_same_home_names_the_first(up: Up) -> None:
    up.start()
    assert up.process is not None

    second = run(up.cwd, "up", "--home", str(up.home), "--port", str(up.port))

    assert second.returncode == 1
    assert f"already runs from {up.home} (process {up.process.pid})" in second.stderr
    assert is_ready(up.url)


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
