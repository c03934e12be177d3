"""Models and datasets of the Hub come through the worker; the child never sees the network."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.models import Job
from core.settings import Settings
from core.states import JobStatus
from examples.tiny_model import write_pydoc_text
from tests.servers.hub import FakeHub, running_hub
from tests.worker.conftest import Bench

pytestmark = pytest.mark.training

TOKEN = "hf_canary_token"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[tuple[FakeHub, str]]:
    root = tmp_path_factory.mktemp("hub")
    shutil.copytree(models / "tiny-llama", root / "models" / "acme" / "tiny-llama")
    pickled = root / "models" / "acme" / "pickled"
    pickled.mkdir(parents=True)
    shutil.copy(models / "tiny-llama" / "config.json", pickled)
    (pickled / "pytorch_model.bin").write_bytes(b"not loaded")
    texts = root / "datasets" / "acme" / "texts"
    texts.mkdir(parents=True)
    write_pydoc_text(texts / "train.jsonl", rows=40)
    write_pydoc_text(texts / "test.jsonl", rows=8)
    with running_hub(root) as running:
        yield running


def run(bench: Bench, url: str, **body: object) -> Job:
    home = bench.settings.home
    bench.settings = Settings(
        TUNEYARD_HOME=home, HF_ENDPOINT=url, HF_TOKEN=TOKEN, RETRY_BACKOFF_SECONDS=0
    )
    job = bench.submit(**body)
    runtime = bench.runtime()
    runtime.work()
    runtime.join()
    return bench.job(job.id)


def test_model_and_dataset_of_the_hub(bench: Bench, hub: tuple[FakeHub, str]) -> None:
    dataset = {"path": "acme/texts", "split": "train", "eval_split": "test"}

    job = run(bench, hub[1], model="acme/tiny-llama", dataset=dataset)

    assert job.status is JobStatus.SUCCEEDED, job.error
    assert job.data_report is not None
    assert job.data_report["train"]["rows"] == 40
    assert job.data_report["eval"]["rows"] == 8
    assert f"Bearer {TOKEN}" in hub[0].tokens


def test_the_adapter_names_its_public_base(bench: Bench, hub: tuple[FakeHub, str]) -> None:
    job = run(bench, hub[1], model="acme/tiny-llama", peft={"r": 2})

    assert job.status is JobStatus.SUCCEEDED, job.error
    found = [key for key, _ in bench.storage.list("jobs") if key.endswith("adapter_config.json")]
    config = json.loads(bench.storage.read_bytes(found[0]))
    assert config["base_model_name_or_path"] == "acme/tiny-llama"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": "acme/absent"}, "model_not_found"),
        ({"model": "acme/pickled"}, "invalid_model"),
        ({"model": "acme/tiny-llama", "dataset": {"path": "acme/absent"}}, "dataset_not_found"),
        (
            {"model": "acme/tiny-llama", "dataset": {"path": "acme/texts", "split": "nope"}},
            "invalid_argument",
        ),
    ],
)
def test_what_the_hub_does_not_have(
    bench: Bench, hub: tuple[FakeHub, str], body: dict[str, object], code: str
) -> None:
    job = run(bench, hub[1], **body)

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == code


def test_the_token_is_in_no_event_and_no_file(bench: Bench, hub: tuple[FakeHub, str]) -> None:
    job = run(bench, hub[1], model="acme/tiny-llama")

    assert all(TOKEN not in f"{event.message}{event.data}" for event in bench.events(job.id))
    for key, _ in bench.storage.list("jobs"):
        assert TOKEN.encode() not in bench.storage.read_bytes(key), key
