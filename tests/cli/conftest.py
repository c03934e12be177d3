"""`tuneyard` as users run it: a command in a process of its own, and `up` beside it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx
import psutil
import pytest

from cli.embedded.broker import free_port
from examples.tiny_model import make_tiny_model, write_pydoc_text

TUNEYARD = str(Path(sys.executable).with_name("tuneyard"))
ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-of-this-test-only"


@dataclass
class Up:
    """A `tuneyard up`, and the command as its users run it."""

    home: Path
    cwd: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where its API answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, **environment: str) -> str:
        """Start it and return its first line, which it prints when it is ready."""
        self.process = subprocess.Popen(
            [TUNEYARD, "up", "--home", str(self.home), "--port", str(self.port)],
            cwd=self.cwd,
            env=environment_of(self.cwd, **environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr and self.process.stderr.read()
        return line

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> tuple[int, str, str]:
        """Exit code, and what it printed after its first line."""
        assert self.process is not None
        out, err = self.process.communicate()
        return self.process.returncode, out, err

    def run(
        self, *arguments: str, text: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command against it, to its end, with a text to read."""
        return run(self.cwd, *arguments, text=text, **({"TUNEYARD_URL": self.url} | environment))

    def processes(self) -> list[psutil.Process]:
        """Every process that was started from it or its parts and is still alive."""
        return [process for process in psutil.process_iter() if _is_of(process, self.home)]


def environment_of(home: Path, **more: str) -> dict[str, str]:
    """An environment with nothing in it of the one that tests run in, but the code under test."""
    own = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)}
    return own | {"POLL_SECONDS": "0.3", **more}


def run(
    cwd: Path, *arguments: str, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `tuneyard` to its end."""
    return subprocess.run(
        [TUNEYARD, *arguments],
        cwd=cwd,
        env=environment_of(cwd, **environment),
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def until(is_true: Callable[[], bool]) -> None:
    """Wait for something that takes as long as it takes; the test's own timeout ends it."""
    pause = Event()
    while not is_true():
        pause.wait(0.1)


def is_ready(url: str) -> bool:
    """Whether an API answers and is ready."""
    try:
        return httpx.get(f"{url}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _is_of(process: psutil.Process, home: Path) -> bool:
    # The broker writes its title over its arguments and environment; its folder still tells.
    try:
        texts = [*process.environ().values(), *process.cmdline(), process.cwd()]
    except psutil.Error:
        return False
    return process.pid != os.getpid() and any(str(home) in text for text in texts)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """An `up` that is not started yet; whatever is left of it is killed afterwards."""
    yield from _up(tmp_path)


@pytest.fixture(scope="module")
def running_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that runs, from a folder that has packages of our names in it, none of them ours."""
    for up in _up(tmp_path_factory.mktemp("up")):
        for name in ("app", "cli", "core", "worker"):
            (up.cwd / name).mkdir()
            (up.cwd / name / "__init__.py").write_text("raise ImportError('the user\\'s own')\n")
        line = up.start()
        assert line.startswith(f"Tuneyard is ready: {up.url} ")
        yield up


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A running `up` with a key, a tiny model and one that cannot be loaded."""
    for up in _up(tmp_path_factory.mktemp("cli")):
        make_tiny_model("llama", up.home / "models" / "tiny-llama")
        broken = up.home / "models" / "broken"
        broken.mkdir()
        config = up.home / "models" / "tiny-llama" / "config.json"
        (broken / "config.json").write_bytes(config.read_bytes())
        write_pydoc_text(up.cwd / "text.jsonl", rows=100)
        up.start(TUNEYARD_API_KEY=KEY)
        yield up


def _up(folder: Path) -> Iterator[Up]:
    (folder / "cwd").mkdir()
    up = Up(folder / "home", folder / "cwd")
    yield up
    for process in up.processes():
        process.kill()
    if up.process is not None:
        up.wait()
    until(lambda: up.processes() == [])
