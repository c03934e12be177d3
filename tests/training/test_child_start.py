"""How children come to life: quickly, without torch in the worker, without the worker's secrets."""

import os
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest

from tests.training.conftest import OrderFactory
from tests.training.running import run_child
from worker.forkserver import ChildHandle, child_environment, start_child

pytestmark = pytest.mark.training

CANARY = "hf_canary_of_the_worker"


def environment_of(child: ChildHandle) -> str:
    """What the process was given, as the kernel knows it."""
    return Path(f"/proc/{child.pid}/environ").read_text()


def test_the_worker_loads_no_torch() -> None:
    program = "import sys, worker.forkserver; sys.exit('torch' in sys.modules)"

    result = subprocess.run([sys.executable, "-c", program], check=False)

    assert result.returncode == 0


def test_the_environment_is_made_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setenv("DATABASE_URL", CANARY)

    environment = child_environment(scratch=tmp_path, devices="1")

    assert CANARY not in environment.values()
    assert environment["HOME"] == str(tmp_path)
    assert environment["HF_HUB_OFFLINE"] == environment["USE_HUB_KERNELS"].replace("0", "1")
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_children_of_a_forkserver_that_was_started_again_see_no_secret(
    make_order: OrderFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """multiprocessing launches a dead forkserver again, with whatever environment there is."""
    monkeypatch.setenv("HF_TOKEN", CANARY)
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    psutil.Process(pid).kill()

    child = start_child(make_order(training={"max_steps": 100_000}))
    child.receive()

    assert CANARY not in environment_of(child)
    assert os.environ["HF_TOKEN"] == CANARY
    child.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_child_is_a_group_of_its_own_that_the_kernel_ends_first(
    make_order: OrderFactory,
) -> None:
    child = start_child(make_order(training={"max_steps": 100_000}))
    child.receive()

    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
    assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "500"
    child.close()


def test_a_handle_can_be_closed_twice(make_order: OrderFactory) -> None:
    child = start_child(make_order())

    child.close()
    child.close()

    assert child.process.exitcode == -9


def test_what_a_child_prints_comes_through_its_log(make_order: OrderFactory) -> None:
    """Of libraries, too, and of native code: it is the file descriptors that are redirected."""
    peft = {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}

    run = run_child(make_order(peft=peft))

    assert b"ensure_weight_tying" in run.log


def test_a_deep_scratch_folder_does_not_keep_children_from_starting(tmp_path: Path) -> None:
    """The forkserver listens on a socket, whose name the system limits to some hundred bytes."""
    deep = tmp_path / ("x" * 100)
    code = (
        "import sys; from pathlib import Path; from worker.forkserver import *;"
        "warm(child_environment(scratch=Path(sys.argv[1])))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(deep)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
