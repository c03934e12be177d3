"""How a child ended without a word says why."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from core.failure import Failure
from core.states import FailureReason, JobStatus, Outcome
from tests.conftest import ON_SQLITE
from tests.worker.conftest import Bench
from tests.worker.test_supervisor import outcomes
from worker.relay import Relay
from worker.verdict import Traces, died

pytestmark = pytest.mark.training

BOMB = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}


@ON_SQLITE
def test_a_tokenizer_that_takes_all_memory_ends_its_job_and_nothing_else(
    bench: Bench, models: Path
) -> None:
    """The library aborts the process; another attempt would end like this one."""
    folder = models / "bomb"
    shutil.copytree(models / "tiny-opt", folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [BOMB] * 4}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    job = bench.submit(model="local/bomb", resources={"memory": 1500 * 1024**2})
    runtime = bench.runtime()

    runtime.work()
    runtime.join()

    job = bench.job(job.id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["param"]) == ("invalid_model", "model")
    assert "(signal 6)" in job.error["message"]
    assert "memory allocation" in job.error["message"]
    assert outcomes(bench, job.id) == [Outcome.FAILED]
    assert not list(bench.settings.scratch_folder.glob(f"*{job.id}*"))


THROW = "import ctypes; ctypes.CDLL('libstdc++.so.6')._ZSt{}v()"


@dataclass
class Heard:
    """What a relay knows of a child."""

    phase: str
    last_lines: Sequence[str]
    step: int = 3


def _aborted(thrown: str, phase: str) -> Failure:
    """The verdict on a process of C++ that really threw this, and that nobody caught."""
    done = subprocess.run(
        [sys.executable, "-c", THROW.format(thrown)], capture_output=True, text=True, check=False
    )
    heard = Heard(phase, done.stderr.splitlines())
    traces = Traces(exit_code=done.returncode, peak_memory_bytes=None, memory_limit_bytes=None)
    return died(cast(Relay, heard), traces, is_killed_by_kernel=False)


@pytest.mark.parametrize("phase", ["load", "data", "train"])
def test_a_child_that_aborts_for_want_of_memory_has_run_out_of_it(phase: str) -> None:
    failure = _aborted("17__throw_bad_alloc", phase)

    assert failure.reason is FailureReason.OUT_OF_MEMORY
    assert failure.evidence is not None
    depends = failure.evidence["depends_on_batch"]
    assert depends is (phase == "train")
    assert ("step 3" if depends else "while it was loading") in failure.message


def test_a_child_that_aborts_for_another_reason_has_died() -> None:
    assert _aborted("16__throw_bad_cast", "train").reason is FailureReason.CHILD_DIED
