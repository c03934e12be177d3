"""What a training child cannot do, whatever its model, data or libraries make it try."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import SettingsError
from core.sandbox import landlock_version
from core.settings import Settings
from tests.conftest import missing
from tests.training.conftest import OrderFactory
from tests.training.running import run_child
from worker.machine import is_sandboxed

pytestmark = pytest.mark.training

PROBE = """
import json, os, signal, socket, sys
from pathlib import Path
from core.sandbox import enter_sandbox
given = json.loads(sys.argv[1])
enter_sandbox(readable=[Path(given["readable"])], writable=Path(given["writable"]))
def attempt(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"
print(json.dumps({
    "read input": attempt(lambda: open(given["readable"] + "/input").read()),
    "write input": attempt(lambda: open(given["readable"] + "/input", "a")),
    "write scratch": attempt(lambda: open(given["writable"] + "/new", "w").write("x")),
    "read secret": attempt(lambda: open(given["secret"]).read()),
    "write secret": attempt(lambda: open(given["secret"], "a")),
    "list elsewhere": attempt(lambda: os.listdir(os.path.dirname(given["secret"]))),
    "read passwords": attempt(lambda: open("/etc/passwd").read()),
    "environment of another": attempt(lambda: open(f"/proc/{given['pid']}/environ").read()),
    "signal another": attempt(lambda: os.kill(given["pid"], signal.SIGUSR2)),
    "connect": attempt(lambda: socket.create_connection(("127.0.0.1", given["port"]), 5)),
    "listen": attempt(lambda: socket.create_server(("127.0.0.1", 0))),
    "start a program": attempt(lambda: os.execv(given["secret"], [given["secret"]])),
}))
"""


@pytest.fixture(autouse=True)
def _kernel_has_landlock() -> None:
    if not landlock_version():
        missing("Landlock")


def test_a_child_reaches_nothing_but_its_own(tmp_path: Path) -> None:
    readable, writable, secret = tmp_path / "model", tmp_path / "scratch", tmp_path / "key" / "file"
    for folder in (readable, writable, secret.parent):
        folder.mkdir()
    (readable / "input").write_text("weights")
    secret.write_text("secret")

    with socket.create_server(("127.0.0.1", 0)) as server:
        given = {
            "readable": str(readable),
            "writable": str(writable),
            "secret": str(secret),
            "pid": os.getpid(),
            "port": server.getsockname()[1],
        }
        said = subprocess.run(
            [sys.executable, "-c", PROBE, json.dumps(given)],
            capture_output=True,
            check=True,
            text=True,
        ).stdout

    tried = json.loads(said)
    allowed = {name for name, result in tried.items() if result == "done"}
    assert allowed == {"read input", "write scratch"}
    refused = {name: result for name, result in tried.items() if name not in allowed}
    assert set(refused.values()) == {"PermissionError"}


def test_the_walls_change_no_loss(make_order: OrderFactory, eval_file: Path) -> None:
    """A whole training with evaluation, checkpoints and LoRA, inside and outside of them."""
    more = {"eval": {"kind": "jsonl", "path": str(eval_file)}, "peft": {"r": 4}}
    training = {"eval_strategy": "steps", "eval_steps": 3, "dataloader_num_workers": 1}

    inside = run_child(make_order(training=training, is_sandboxed=True, **more))
    outside = run_child(make_order(training=training, is_sandboxed=False, **more))

    assert inside.last["type"] == "finished", inside.log.decode()
    for name in ("train_loss", "valid_loss"):
        assert inside.metric(name) == outside.metric(name) != {}


def test_a_model_of_links_is_readable(
    make_order: OrderFactory, models: Path, tmp_path: Path
) -> None:
    """The Hub's cache keeps a model as links to files elsewhere."""
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for file in (models / "llama").iterdir():
        (linked / file.name).symlink_to(file)

    run = run_child(make_order(model_dir=str(linked), is_sandboxed=True))

    assert run.last["type"] == "finished", run.log.decode()


def test_a_worker_that_must_have_walls_says_when_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(TUNEYARD_HOME=tmp_path, TUNEYARD_SANDBOX="required")
    assert is_sandboxed(settings)

    monkeypatch.setattr("worker.machine.landlock_version", lambda: 0)

    with pytest.raises(SettingsError, match="TUNEYARD_SANDBOX"):
        is_sandboxed(settings)
    assert not is_sandboxed(Settings(TUNEYARD_HOME=tmp_path))
