"""Plans over HTTP: what a job would take, and what "auto" becomes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from core.db import database_now
from core.models import Worker
from tests.api.conftest import JOBS, Site, jsonl, problem_of
from tests.unit.test_model_facts import LLAMA, write_model

PLAN = "/v1/fine_tuning/plan"
GIB = 1024**3
LARGE = LLAMA | {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "vocab_size": 128_256,
}
OPENAI = ("n_epochs", "batch_size", "learning_rate_multiplier")
SPLIT = ("per_device_train_batch_size", "gradient_accumulation_steps")


@pytest.fixture
def site(site: Site, models: Path) -> Site:
    """The API, whose models are local/tiny of a Llama and local/large of 1.1e9 parameters."""
    (models / "tiny" / "config.json").write_text(json.dumps(LLAMA))
    (models / "large").mkdir()
    (models / "large" / "config.json").write_text(json.dumps(LARGE))
    return site


def make_worker(session: Session, name: str = "worker-1", **facts: Any) -> None:
    """A worker that was seen just now."""
    facts = {"device": "cpu", "cpus": 2, "memory_bytes": 8 * GIB, **facts}
    now = database_now(session)
    session.add(Worker(name=name, heartbeat_at=now, slots=1, facts=facts))


def plan(site: Site, **body: Any) -> dict[str, Any]:
    """The plan of a job on an uploaded file of 20 rows."""
    body = {"model": "local/tiny", "training_file": site.upload(), **body}
    response = site.client.post(PLAN, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def split_of(option: dict[str, Any]) -> tuple[int, int]:
    return option[SPLIT[0]], option[SPLIT[1]]


def test_a_plan_has_every_split_of_the_effective_batch(site: Site) -> None:
    answer = plan(site, effective_batch_size=4)

    assert answer["effective_batch_size"] == 4
    splits = [(*split_of(o), o["gradient_checkpointing"]) for o in answer["options"]]
    assert splits == [
        *((size, 4 // size, False) for size in (4, 2, 1)),
        *((size, 4 // size, True) for size in (4, 2, 1)),
    ]
    for option in answer["options"]:
        assert option["peak_memory_bytes"] == sum(option["terms"].values())
        assert option["seconds_per_step"] > 0
    assert answer["recommended"] in answer["options"]


def test_steps_are_counted_as_the_trainer_counts_them(site: Site) -> None:
    training = {"per_device_train_batch_size": 3, "num_train_epochs": 2}

    assert plan(site, training=training)["steps"] == 14
    assert plan(site, training={**training, "max_steps": 5})["steps"] == 5


def test_a_worker_with_room_fits_and_another_is_told_the_smallest_change(site: Site) -> None:
    with site.database.write() as session:
        make_worker(session, "roomy", memory_bytes=64 * GIB)
        make_worker(session, "narrow", memory_bytes=12 * GIB)

    answer = plan(site, model="local/large", training={"max_length": 128})

    verdicts = {worker["worker"]: worker for worker in answer["workers"]}
    assert verdicts["roomy"]["verdict"] == "fits"
    assert verdicts["narrow"]["verdict"] == "fits_with_change"
    assert verdicts["narrow"]["change"]["peft"]


def test_a_gpu_whose_memory_is_not_told_is_unknown(site: Site) -> None:
    with site.database.write() as session:
        make_worker(session, device="cuda")

    assert plan(site)["workers"][0]["verdict"] == "unknown"


def test_a_gpu_is_planned_for_by_its_own_memory(site: Site) -> None:
    with site.database.write() as session:
        gpu = {"device": "cuda", "memory_bytes": 512 * GIB, "bf16": True}
        make_worker(session, "large", device_memory_bytes=80 * GIB, **gpu)
        make_worker(session, "small", device_memory_bytes=12 * GIB, **gpu)
    auto = {SPLIT[0]: "auto", "max_length": 512, "bf16": "auto"}

    answer = plan(site, model="local/large", training=auto, peft={"r": 8}, effective_batch_size=64)

    verdicts = {worker["worker"]: worker for worker in answer["workers"]}
    assert verdicts["large"]["memory_bytes"] == 80 * GIB
    assert {worker["verdict"] for worker in answer["workers"]} == {"fits"}
    assert answer["limit_bytes"] == 12 * GIB
    assert answer["taken"]["peak_memory_bytes"] < 12 * GIB
    assert answer["training"]["bf16"] is True
    assert answer["margin"] == 0.25


def test_an_unknown_architecture_is_planned_with_a_wider_margin_and_says_so(
    site: Site, models: Path
) -> None:
    (models / "stable").mkdir()
    (models / "stable" / "config.json").write_text(json.dumps(LLAMA | {"model_type": "stablelm"}))

    answer = plan(site, model="local/stable")

    assert answer["margin"] > plan(site)["margin"]
    assert any("stablelm was never measured" in warning for warning in answer["warnings"])


@pytest.mark.parametrize(
    ("config", "reason"), [("{", "not JSON"), ("{}", "no hidden_size"), ("[1]", "not an object")]
)
def test_a_model_that_cannot_be_read_is_named(
    site: Site, models: Path, config: str, reason: str
) -> None:
    (models / "tiny" / "config.json").write_text(config)
    body = {"model": "local/tiny", "training_file": site.upload()}

    error = problem_of(site.client.post(PLAN, json=body), 400)

    assert error["param"] == "model"
    assert reason in error["message"]


WHOLE = {
    "config.json": json.dumps(LLAMA),
    "tokenizer.json": "{}",
    "tokenizer_config.json": "{}",
}
CHAT = jsonl(
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
)


def write_whole(folder: Path, files: Mapping[str, str | None]) -> None:
    """A model folder with weights, as far as their header tells, and these small files."""
    folder.mkdir()
    write_model(folder, LLAMA, model__embed_tokens__weight=[2048, 64])
    for name, content in files.items():
        if content is not None:
            (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("files", "param", "reason"),
    [
        ({"config.json": "{"}, "model", "not JSON"),
        ({"tokenizer.json": None}, "model", "no tokenizer"),
        ({}, "chat_template", "no chat template"),
    ],
)
def test_what_a_model_folder_lacks_is_told_before_a_worker_is_taken(
    site: Site, models: Path, files: dict[str, str | None], param: str, reason: str
) -> None:
    write_whole(models / "bad", WHOLE | files)
    body = {"model": "local/bad", "training_file": site.upload(CHAT)}

    for path in (PLAN, JOBS):
        error = problem_of(site.client.post(path, json=body), 400)

        assert error["param"] == param
        assert reason in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"chat_template": "{{ messages[0].content }}"},
        {"template": "{{ messages[0].content }}"},
        {"training_file": jsonl({"text": "a"})},
        {"training_file": jsonl({"instruction": "a", "output": "b"})},
    ],
)
def test_a_model_without_a_chat_template_trains_on_what_needs_none(
    site: Site, models: Path, body: dict[str, Any]
) -> None:
    write_whole(models / "plain", WHOLE)
    file_id = site.upload(body.get("training_file", CHAT))

    answer = site.post_job(**body | {"model": "local/plain", "training_file": file_id})

    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"training": {"max_length": 4096}}, "training.max_length"),
        (
            {"effective_batch_size": 30, "training": {SPLIT[0]: 8}},
            "effective_batch_size",
        ),
        ({"training": {"effective_batch_size": 0}}, "training.effective_batch_size"),
    ],
)
def test_what_no_training_could_do_is_refused_in_plan_and_job(
    site: Site, body: dict[str, Any], param: str
) -> None:
    body = {"model": "local/tiny", "training_file": site.upload(), **body}

    for path in (PLAN, JOBS):
        assert problem_of(site.client.post(path, json=body), 400)["param"] == param


def test_auto_becomes_numbers_with_reasons_on_the_job(site: Site) -> None:
    with site.database.write() as session:
        make_worker(session, bf16=True)
    names = (*SPLIT, "gradient_checkpointing", "bf16", "learning_rate", "num_train_epochs")

    job = site.post_job(training=dict.fromkeys(names, "auto"), effective_batch_size=16).json()

    training = job["training"]
    assert "auto" not in training.values()
    assert training[SPLIT[0]] * training[SPLIT[1]] == 16
    assert training["bf16"] is True
    assert training["learning_rate"] == 2e-5
    assert job["plan"]["reasons"].keys() == set(names)
    assert split_of(job["plan"]) == (training[SPLIT[0]], training[SPLIT[1]])


def test_openai_auto_epochs_see_few_rows_more_often(site: Site) -> None:
    job = site.post_job(hyperparameters=dict.fromkeys(OPENAI, "auto")).json()

    assert job["hyperparameters"]["n_epochs"] == 5
    assert job["hyperparameters"]["learning_rate_multiplier"] == 1.0
    assert job["hyperparameters"]["batch_size"] * job["training"][SPLIT[1]] == 8


def test_auto_stays_within_the_memory_that_was_asked_for(site: Site) -> None:
    body = {
        "model": "local/large",
        "peft": {"r": 8},
        "training": {"max_length": 512, SPLIT[0]: "auto"},
        "effective_batch_size": 32,
    }
    free = site.post_job(**body).json()["plan"]
    room = round(free["needed_bytes"] * 0.8)

    bound = site.post_job(**body, resources={"memory": room}).json()["plan"]

    assert bound["needed_bytes"] <= room
    assert bound["effective_batch_size"] == 32


def test_auto_is_left_to_the_trainer_where_the_model_cannot_be_read(
    site: Site, models: Path
) -> None:
    (models / "tiny" / "config.json").write_text("{}")

    job = site.post_job(training={SPLIT[0]: "auto"}).json()

    assert SPLIT[0] not in job["training"]
    assert job["plan"] is None
    events = site.client.get(f"{JOBS}/{job['id']}/events").json()["data"]
    assert any("nothing could be planned" in event["message"] for event in events)
