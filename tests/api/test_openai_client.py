"""OpenAI's own client, unchanged, against a real server."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from app.main import create_app
from core.db import Database
from core.settings import Settings
from tests.api.conftest import (
    NO_FILE,
    NO_JOB,
    ROWS,
    Site,
    changed,
    jsonl,
    line,
    listening,
    metrics,
)

KEY = "a-key-of-some-length"


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    """A client as a user has it, but for its patience."""
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def file_id(client: OpenAI) -> str:
    """An uploaded file."""
    return client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune").id


def test_files_go_their_whole_way(client: OpenAI) -> None:
    created = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")

    assert (created.bytes, created.status, created.purpose) == (len(ROWS), "processed", "fine-tune")
    assert [file.id for file in client.files.list()] == [created.id]
    assert client.files.retrieve(created.id) == created
    assert client.files.content(created.id).read() == ROWS
    assert client.files.delete(created.id).deleted
    assert list(client.files.list()) == []


def test_a_file_can_be_waited_for(client: OpenAI, file_id: str) -> None:
    assert client.files.wait_for_processing(file_id).id == file_id


def test_a_list_of_files_is_followed_to_its_end(client: OpenAI) -> None:
    ids = [client.files.create(file=ROWS, purpose="fine-tune").id for _ in range(5)]

    assert [file.id for file in client.files.list(limit=2)] == ids[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == ids


def test_a_job_takes_the_trainers_own_arguments(client: OpenAI, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(
        model="local/tiny",
        training_file=file_id,
        seed=7,
        suffix="mine",
        metadata={"team": "a"},
        extra_body={
            "training": {"learning_rate": 1e-3, "max_steps": 10},
            "peft": {"r": 4, "target_modules": "all-linear"},
        },
    )

    assert (job.object, job.status, job.seed) == ("fine_tuning.job", "queued", 7)
    assert job.metadata == {"team": "a"}
    assert job.model_extra is not None
    assert job.model_extra["training"] == {"learning_rate": 1e-3, "max_steps": 10}
    assert job.model_extra["peft"] == {"r": 4, "target_modules": "all-linear"}
    assert client.fine_tuning.jobs.retrieve(job.id) == job


def test_a_job_takes_openais_own_method(client: OpenAI, file_id: str) -> None:
    hyperparameters = {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}

    job = client.fine_tuning.jobs.create(
        model="local/tiny",
        training_file=file_id,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    )

    assert job.hyperparameters.n_epochs == 2
    assert job.method is not None
    assert job.method.supervised is not None
    assert job.method.supervised.hyperparameters is not None
    assert job.method.supervised.hyperparameters.batch_size == "auto"


def test_a_list_of_jobs_is_followed_to_its_end(client: OpenAI, file_id: str) -> None:
    jobs = client.fine_tuning.jobs
    ids = [
        jobs.create(model="local/tiny", training_file=file_id, metadata={"even": str(n % 2)}).id
        for n in range(5)
    ]

    assert [job.id for job in jobs.list(limit=2)] == ids[::-1]
    even = jobs.list(limit=1, metadata={"even": "0"})
    assert [job.id for job in even] == [ids[4], ids[2], ids[0]]


def test_a_job_pauses_resumes_and_is_cancelled(client: OpenAI, file_id: str) -> None:
    jobs = client.fine_tuning.jobs
    job_id = jobs.create(model="local/tiny", training_file=file_id).id

    statuses = [change(job_id).status for change in (jobs.pause, jobs.resume, jobs.cancel)]

    assert statuses == ["paused", "queued", "cancelled"]
    assert jobs.retrieve(job_id).finished_at is not None


def test_a_list_of_events_is_followed_to_its_end(site: Site, client: OpenAI) -> None:
    lease = site.start()
    site.record(lease, *(line(f"line {number}") for number in range(45)))

    events = list(client.fine_tuning.jobs.list_events(lease.job_id, limit=10))

    assert len(events) == 47
    assert [event.message for event in events[:45]] == [f"line {n}" for n in range(44, -1, -1)]
    assert {event.object for event in events} == {"fine_tuning.job.event"}


def test_checkpoints_and_models_are_listed(site: Site, client: OpenAI) -> None:
    lease = site.start()
    for step in (2, 4, 6):
        site.publish(lease, step, {"model.safetensors": b"weights"})
    site.succeed(lease)

    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(lease.job_id, limit=2))

    assert [checkpoint.step_number for checkpoint in checkpoints] == [6, 4, 2]
    assert [checkpoint.metrics.train_loss for checkpoint in checkpoints] == [1.5, 1.5, 1.5]
    model = client.fine_tuning.jobs.retrieve(lease.job_id).fine_tuned_model
    assert model == f"jobs/{lease.job_id}"
    assert [item.id for item in client.models.list()] == ["local/tiny", model]
    assert client.models.retrieve("local/tiny").owned_by == "local"
    assert client.models.retrieve(model).id == model


def test_the_flow_of_openais_cookbook_needs_another_address_key_and_model_only(
    site: Site, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its calls in its order, by the module's own client and with what it reads of each answer."""
    monkeypatch.setattr(openai, "base_url", f"{url}/v1/")
    monkeypatch.setattr(openai, "api_key", "none")
    chat = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    row = {"messages": [*chat, {"role": "assistant", "content": "c"}]}
    ids = []
    for name in ("training.jsonl", "validation.jsonl"):
        (tmp_path / name).write_bytes(jsonl(*[row] * 30))
        with open(tmp_path / name, "rb") as file:
            ids.append(openai.files.create(file=file, purpose="fine-tune").id)

    job = openai.fine_tuning.jobs.create(
        training_file=ids[0], validation_file=ids[1], model="local/tiny", suffix="recipe-ner"
    )
    lease = site.claim()
    running = openai.fine_tuning.jobs.retrieve(job.id)
    site.record(lease, metrics(1, train_loss=2.5, valid_loss=3.0))
    site.publish(lease, 1, {"model.safetensors": b"weights"})
    site.succeed(lease)
    events = openai.fine_tuning.jobs.list_events(job.id).data
    events.reverse()
    done = openai.fine_tuning.jobs.retrieve(job.id)

    assert job.status in ("validating_files", "queued")
    assert (running.status, running.trained_tokens) == ("running", None)
    assert events[0].message.startswith("Created fine-tuning job: ")
    assert events[-1].message == "The job has successfully completed"
    assert "Step 1" in [event.message for event in events]
    assert (done.status, done.fine_tuned_model) == ("succeeded", f"jobs/{job.id}")
    (checkpoint,) = openai.fine_tuning.jobs.checkpoints.list(job.id).data
    assert (checkpoint.step_number, checkpoint.fine_tuning_job_id) == (1, job.id)


def test_a_bad_request_names_its_field(client: OpenAI, file_id: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(
            model="local/tiny",
            training_file=file_id,
            extra_body={"training": {"gradient_accumulation_stepz": 2}},
        )

    error = caught.value
    assert error.param == "training.gradient_accumulation_stepz"
    assert error.code == "unknown_argument"
    assert error.type == "invalid_request_error"
    assert "gradient_accumulation_steps" in error.message
    assert error.request_id


def test_a_bad_file_names_its_line(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="line 2") as caught:
        client.files.create(file=b'{"text": "a"}\n{"text": 5}\n', purpose="fine-tune")

    assert caught.value.param == "file"


def test_what_is_not_there_is_not_found(client: OpenAI) -> None:
    jobs = client.fine_tuning.jobs
    for ask in (
        lambda: client.files.retrieve(NO_FILE),
        lambda: client.files.content(NO_FILE),
        lambda: client.files.delete(NO_FILE),
        lambda: jobs.retrieve(NO_JOB),
        lambda: jobs.cancel(NO_JOB),
        lambda: jobs.list_events(NO_JOB),
        lambda: jobs.checkpoints.list(NO_JOB),
        lambda: jobs.create(model="local/nope", training_file=NO_FILE),
        lambda: client.models.retrieve("local/nope"),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            ask()
        assert caught.value.code
        assert caught.value.param


def test_a_wrong_key_is_no_way_in(api_settings: Settings, database: Database) -> None:
    with listening(create_app(changed(api_settings, api_key=KEY))) as url:
        wrong = OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0)
        right = OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)

        with wrong, right:
            with pytest.raises(openai.AuthenticationError):
                wrong.files.list()
            assert list(right.files.list()) == []
