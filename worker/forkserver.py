"""Starts training children in a fraction of a second. The worker itself never imports torch.

A forkserver imports the training stack once; each child is a fork of it.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver, util
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import psutil

PRELOAD = ["worker.child.preload"]
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
WARM_SECONDS = 300
END_SECONDS = 5

_lock = threading.Lock()
_environment: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class ChildHandle:
    """A running child, as its supervisor holds it."""

    process: BaseProcess
    control: Connection
    """JSON messages, in both directions."""
    log: Connection
    """All that the child prints, as raw bytes: `os.read(log.fileno(), n)`, empty at its end."""

    @property
    def pid(self) -> int:
        """Process id; also the id of the child's session and process group."""
        assert self.process.pid is not None
        return self.process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; OSError when the child is gone."""
        self.control.send_bytes(orjson.dumps(message))

    def receive(self) -> dict[str, Any]:
        """Take one message, waiting for it; EOFError or OSError when the child is gone."""
        message: dict[str, Any] = orjson.loads(self.control.recv_bytes())
        return message

    def dump_stacks(self) -> None:
        """Make the child print where each of its threads is; nothing happens when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)
            # One that somebody has stopped can say nothing.
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the child and everything it started, at once; nothing happens when it is gone."""
        if self.process.is_alive():
            # Before the child has made its own group the signal finds none: then it is alone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.kill()

    def close(self) -> None:
        """End the child if it runs, and give back what belongs to it. May be called again."""
        self.kill()
        self.process.join()
        self.control.close()
        self.log.close()


def child_environment(*, scratch: Path, devices: str | None = None) -> dict[str, str]:
    """The whole environment of children, made from nothing: no secret of the worker gets in.

    `scratch` becomes their home and temporary folder; `devices` is CUDA_VISIBLE_DEVICES.
    """
    temporary = scratch / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {
        "HOME": str(scratch),
        # Else libraries look the user up in files that a sandboxed child cannot read.
        "USER": "tuneyard",
        "TMPDIR": str(temporary),
        "HF_HOME": str(scratch / "huggingface"),
        # The forkserver finds this code here, whatever folder the worker was started in.
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
        # More threads in the forkserver would not survive a fork; children set their own number.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # How often an idle thread looks for work before it sleeps. By default it spins for
        # milliseconds, which makes small models fifty times slower on a busy machine; without any
        # spinning a quiet machine is a quarter slower (benchmarks/throughput.py).
        "GOMP_SPINCOUNT": "2000",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "USE_HUB_KERNELS": "0",
        "WANDB_DISABLED": "true",
    }
    if devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    return environment


def warm_context() -> ForkServerContext:
    """The way to make processes whose forkserver has loaded the training stack."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def warm(environment: Mapping[str, str]) -> None:
    """Start the forkserver with this environment, and one child, so that no job pays the imports.

    Takes some seconds. Call it once, before other threads run: the environment of this process is
    replaced for a moment. RuntimeError when children cannot be started.
    """
    # The forkserver's socket: below a deep scratch folder its name would be too long.
    util.get_temp_dir()
    _environment.clear()
    _environment.update(environment)
    context = warm_context()
    ours, theirs = context.Pipe(duplex=False)
    with ours:
        process = _start(context, _say_ready, (theirs,), name="warm")
        theirs.close()
        try:
            if not ours.poll(WARM_SECONDS):
                raise RuntimeError(f"No training child started within {WARM_SECONDS} seconds.")
            ours.recv_bytes()
        except EOFError as error:
            raise RuntimeError("Training children cannot start; see the log above.") from error
        finally:
            process.kill()
            process.join()


def start_child(order: Mapping[str, Any]) -> ChildHandle:
    """Start a child on this order. Any thread may call it; the child outlives the thread."""
    context = warm_context()
    control, child_control = context.Pipe(duplex=True)
    log, child_log = context.Pipe(duplex=False)
    name = f"train-{order['job_id']}-{order['attempt']}"
    process = _start(context, _train, (child_control, child_log), name=name)
    child_control.close()
    child_log.close()
    handle = ChildHandle(process, control, log)
    with contextlib.suppress(OSError):
        # If the child died already, its end of the line tells how.
        handle.send(order)
    return handle


def _start(
    context: ForkServerContext, target: Any, connections: tuple[Connection, ...], *, name: str
) -> BaseProcess:
    process = context.Process(target=target, args=connections, name=name)
    with _lock, _no_main_module():
        try:
            with _environment_of_children():
                process.start()
        except (EOFError, OSError):
            # The forkserver died under our hands; the next start launches another.
            _wait_for_its_end()
            with _environment_of_children():
                process.start()
    return process


@contextlib.contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide this process's main module: a child would run it again, and it may be celery's."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _environment_of_children() -> Iterator[None]:
    """Let a forkserver that has to be launched see the environment of children and no other."""
    if not _environment or _is_forkserver_running():
        yield
        return
    ours = dict(os.environ)
    os.environ.clear()
    os.environ.update(_environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(ours)


def _is_forkserver_running() -> bool:
    """Whether multiprocessing will find it so: it looks with waitpid, which this must not do."""
    pid: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if pid is None:
        return False
    if sys.platform == "linux":
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    return psutil.pid_exists(pid) and bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def _wait_for_its_end() -> None:
    deadline = time.monotonic() + END_SECONDS
    while _is_forkserver_running() and time.monotonic() < deadline:
        time.sleep(0.01)


def _say_ready(line: Connection) -> None:
    importlib.import_module(PRELOAD[0])
    line.send_bytes(b"{}")


def _train(control: Connection, log: Connection) -> None:
    # By name, since importing it here would load torch into the worker.
    importlib.import_module("worker.child.main").run(control, log)
