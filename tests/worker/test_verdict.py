"""How a child ended without a word says why."""

import json
import shutil
from pathlib import Path

import pytest

from core.states import JobStatus, Outcome
from tests.worker.conftest import Bench
from tests.worker.test_supervisor import outcomes

pytestmark = pytest.mark.training

BOMB = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
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
