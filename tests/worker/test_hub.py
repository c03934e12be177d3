"""Models and datasets of the Hub come through the worker; the child never sees the network."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.models import Job
from core.states import JobStatus, Outcome
from examples.tiny_model import make_tiny_model, write_pydoc_text
from tests.conftest import ON_SQLITE
from tests.servers.hub import FakeHub, running_hub
from tests.worker.conftest import Bench
from tests.worker.test_supervisor import (
    has_checkpoint,
    outcomes,
    training_children,
    wait_for,
    weights,
    working,
)

pytestmark = [
    pytest.mark.training,
    ON_SQLITE,
]

TOKEN = "hf_canary_token"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[tuple[FakeHub, str]]:
    root = tmp_path_factory.mktemp("hub")
    shutil.copytree(models / "tiny-llama", root / "models" / "acme" / "tiny-llama")
    pickled = root / "models" / "acme" / "pickled"
    pickled.mkdir(parents=True)
    shutil.copy(models / "tiny-llama" / "config.json", pickled)
    (pickled / "pytorch_model.bin").write_bytes(b"not loaded")
    foreign = root / "models" / "acme" / "foreign"
    shutil.copytree(models / "tiny-opt", foreign)
    (foreign / "config.json").write_text(
        '{"model_type": "theirs", "auto_map": {"AutoConfig": "a.B"}}'
    )
    texts = root / "datasets" / "acme" / "texts"
    texts.mkdir(parents=True)
    write_pydoc_text(texts / "train.jsonl", rows=40)
    write_pydoc_text(texts / "test.jsonl", rows=8)
    (root / "datasets" / "acme" / "empty").mkdir()
    table = root / "datasets" / "acme" / "table"
    table.mkdir(parents=True)
    write_table(table / "train.parquet", 300)
    write_table(table / "validation.parquet", 10)
    with running_hub(root) as running:
        yield running


def write_table(path: Path, rows: int, word: str = "row") -> None:
    """A Parquet file of texts, beside a column that nobody trains on."""
    numbers = list(range(rows))
    texts = [f"{word} {number} of {rows}" for number in numbers]
    pq.write_table(pa.table({"text": texts, "number": numbers}), path, row_group_size=50)


def point_at(bench: Bench, url: str) -> None:
    """Let the worker have this Hub."""
    hub = {"hf_endpoint": url, "hf_token": TOKEN, "retry_backoff_seconds": 0}
    bench.settings = bench.settings.model_copy(update=hub)


def run(bench: Bench, url: str, **body: object) -> Job:
    point_at(bench, url)
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


def test_a_streamed_dataset_is_read_as_far_as_the_steps_go(
    bench: Bench, hub: tuple[FakeHub, str]
) -> None:
    dataset = {"path": "acme/table", "eval_split": "validation", "streaming": True}

    job = run(bench, hub[1], dataset=dataset, training={"shuffle_dataset": True})

    assert job.status is JobStatus.SUCCEEDED, job.error
    assert job.data_report is not None
    assert job.data_report["train"]["rows"] == 6 * 2
    assert job.data_report["eval"]["rows"] == 10
    assert len(job.data_report["train"]["revision"]) == 40
    shown = "".join(s["text"] for s in job.data_report["train"]["samples"][0]["segments"])
    assert "row 0 of 300" not in shown


def test_a_killed_job_goes_on_with_the_rows_that_it_had_whatever_the_hub_has_now(
    bench: Bench, tmp_path: Path
) -> None:
    moving = tmp_path / "hub" / "datasets" / "acme" / "moving"
    moving.mkdir(parents=True)
    write_table(moving / "train.parquet", 300)
    body = {
        "dataset": {"path": "acme/moving", "streaming": True},
        "training": {"max_steps": 120, "save_steps": 10},
    }
    with running_hub(tmp_path / "hub") as (_, url):
        calm = run(bench, url, **body)
        killed = bench.submit(**body)
        with working(bench.runtime()) as thread:
            wait_for(bench, killed.id, has_checkpoint)
            write_table(moving / "train.parquet", 300, "other")
            for child in training_children():
                child.kill()
            thread.join()

    assert outcomes(bench, killed.id) == [Outcome.FAILED, Outcome.SUCCEEDED]
    assert bench.losses(killed.id) == bench.losses(calm.id)
    assert weights(bench, killed.id) == weights(bench, calm.id)


@pytest.fixture
def moving(models: Path, tmp_path: Path) -> Iterator[tuple[FakeHub, str]]:
    """A Hub of this test's own, with acme/moving on it."""
    shutil.copytree(models / "tiny-opt", tmp_path / "hub" / "models" / "acme" / "moving")
    with running_hub(tmp_path / "hub") as running:
        yield running


def forget(bench: Bench) -> None:
    """The worker has nothing of the Hub any more."""
    shutil.rmtree(bench.settings.scratch_folder / "cache" / "hub")


def move(hub: FakeHub) -> None:
    """Other weights become the newest commit of acme/moving."""
    folder = hub.history.parent / "models" / "acme" / "moving"
    before = (folder / "model.safetensors").read_bytes()
    make_tiny_model("opt", folder, seed=1)
    assert (folder / "model.safetensors").read_bytes() != before


ADAPTER = {"peft": {"r": 2}, "training": {"max_steps": 80, "save_steps": 5}}


def test_a_killed_job_goes_on_with_the_model_that_it_had(
    bench: Bench, moving: tuple[FakeHub, str]
) -> None:
    """Not the adapter alone: what is below it too, on a machine that never had either."""
    hub, url = moving
    body = {**ADAPTER, "model": "acme/moving"}
    calm = run(bench, url, **body)
    killed = bench.submit(**body)
    with working(bench.runtime()) as thread:
        wait_for(bench, killed.id, has_checkpoint)
        move(hub)
        forget(bench)
        for child in training_children():
            child.kill()
        thread.join()

    assert outcomes(bench, killed.id) == [Outcome.FAILED, Outcome.SUCCEEDED]
    assert bench.job(killed.id).model_revision == calm.model_revision
    assert bench.losses(killed.id) == bench.losses(calm.id)
    assert weights(bench, killed.id) == weights(bench, calm.id)


def test_what_was_learned_stays_on_the_model_that_it_was_learned_on(
    bench: Bench, moving: tuple[FakeHub, str]
) -> None:
    """As long as the Hub has its commit; afterwards the job says which one is gone."""
    hub, url = moving
    short = {"training": {"max_steps": 2}}
    first = run(bench, url, model="acme/moving", peft={"r": 2}, **short)
    before = run(bench, url, model=f"jobs/{first.id}", **short)
    move(hub)

    after = run(bench, url, model=f"jobs/{first.id}", **short)
    shutil.rmtree(hub.history)
    forget(bench)
    gone = run(bench, url, model=f"jobs/{first.id}", **short)

    assert after.model_revision == before.model_revision == first.model_revision
    assert bench.losses(after.id) == bench.losses(before.id)
    assert gone.error is not None
    assert (gone.error["code"], gone.error["param"]) == ("model_not_found", "model")
    assert f"no longer has commit {first.model_revision} of 'acme/moving'" in gone.error["message"]


def test_the_adapter_names_its_public_base(bench: Bench, hub: tuple[FakeHub, str]) -> None:
    job = run(bench, hub[1], model="acme/tiny-llama", peft={"r": 2})

    assert job.status is JobStatus.SUCCEEDED, job.error
    found = [key for key, _ in bench.storage.list("jobs") if key.endswith("adapter_config.json")]
    config = json.loads(bench.storage.read_bytes(found[0]))
    assert config["base_model_name_or_path"] == "acme/tiny-llama"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (
            {"dataset": {"path": "acme/table", "split": "nope", "streaming": True}},
            "invalid_argument",
        ),
        ({"dataset": {"path": "acme/empty"}}, "invalid_argument"),
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


def test_a_model_that_needs_its_own_code_is_refused_before_its_weights_are_fetched(
    bench: Bench, hub: tuple[FakeHub, str]
) -> None:
    hub[0].sent.clear()

    job = run(bench, hub[1], model="acme/foreign")

    assert job.error is not None
    assert job.error["code"] == "invalid_model"
    assert "needs code of its own (auto_map)" in job.error["message"]
    assert hub[0].sent == {"config.json", "tokenizer_config.json"}


def test_the_token_is_in_no_event_and_no_file(bench: Bench, hub: tuple[FakeHub, str]) -> None:
    job = run(bench, hub[1], model="acme/tiny-llama")

    assert all(TOKEN not in f"{event.message}{event.data}" for event in bench.events(job.id))
    for key, _ in bench.storage.list("jobs"):
        assert TOKEN.encode() not in bench.storage.read_bytes(key), key
