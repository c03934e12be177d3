"""The whole service as its users have it: real processes, real clients, real training."""

import hashlib
import io
import json
import pickle
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from kombu import Connection
from kombu.pidbox import Mailbox
from openai import OpenAI
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.tiny_model import make_tiny_model, write_pydoc_text
from tests.servers.postgres import create_database
from tests.servers.service import Service, running_service

pytestmark = [pytest.mark.training, pytest.mark.process]

JOBS = "/v1/fine_tuning/jobs"
TRAINING = {
    "max_steps": 12,
    "logging_steps": 1,
    "save_steps": 4,
    "max_length": 64,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    make_tiny_model("llama", root / "tiny-llama")
    return root


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, models: Path
) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("service")
    url = f"sqlite:///{home / 'tuneyard.db'}"
    if request.param == "postgresql":
        url = create_database(request.getfixturevalue("postgres_server"), "service")
    with running_service(home, database_url=url, models=models) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def file_id(client: OpenAI, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "text.jsonl"
    write_pydoc_text(path, rows=100)
    return client.files.create(file=path, purpose="fine-tune").id


def create(
    client: OpenAI, file_id: str, sample_prompts: tuple[str, ...] = (), **training: Any
) -> str:
    job = client.fine_tuning.jobs.create(
        model="local/tiny-llama",
        training_file=file_id,
        extra_body={"training": TRAINING | training, "sample_prompts": sample_prompts},
    )
    return job.id


def stream(service: Service, job_id: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """The events of a job, live, each with its number, until the server ends the stream."""
    headers = {"accept": "text/event-stream", "last-event-id": str(after)}
    url = f"{service.url}{JOBS}/{job_id}/events"
    with httpx.stream("GET", url, headers=headers, timeout=120) as response:
        number = 0
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                number = int(value)
            elif name == "data":
                yield {"seq": number, **json.loads(value)}


def until_step(service: Service, job_id: str, step: int) -> int:
    """Read the stream up to a step; the number of the event that told it."""
    for event in stream(service, job_id):
        if event["type"] == "metrics" and event["data"]["step"] >= step:
            return int(event["seq"])
    pytest.fail(f"the stream ended before step {step}")


def until_status(service: Service, job_id: str, status: str) -> None:
    """Read the stream until the job has come to a status."""
    for event in stream(service, job_id):
        if event["data"] and event["data"].get("status") == status:
            return
    pytest.fail(f"the stream ended before the job was {status}")


def losses(service: Service, job_id: str) -> dict[int, float]:
    columns = httpx.get(f"{service.url}{JOBS}/{job_id}/metrics").json()
    return dict(zip(columns["step"], columns["train_loss"], strict=True))


@pytest.mark.every_database
def test_from_upload_to_generation(
    service: Service, client: OpenAI, file_id: str, tmp_path: Path
) -> None:
    job_id = create(client, file_id, sample_prompts=("The value of",))

    events = list(stream(service, job_id))

    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["data"]["status"] == "succeeded"
    looks = [event["data"] for event in events if event["data"].get("kind") == "samples"]
    assert [look["step"] for look in looks] == [0, 4, 8, 12]
    job = client.fine_tuning.jobs.retrieve(job_id)
    assert job.status == "succeeded"
    assert job.fine_tuned_model == f"jobs/{job_id}"
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job_id).data
    assert [checkpoint.step_number for checkpoint in checkpoints] == [12, 8, 4]
    folder = download(service, job_id, 12, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer("The value of", return_tensors="pt")
    generated = model.generate(prompt.input_ids, max_new_tokens=5, do_sample=False)
    assert generated.shape[1] > prompt.input_ids.shape[1]


def download(service: Service, job_id: str, step: int, folder: Path) -> Path:
    """Each file by itself and all as one archive; both must be what the manifest says."""
    base = f"{service.url}{JOBS}/{job_id}/checkpoints/{step}"
    files = [entry for entry in httpx.get(base).json()["files"] if entry["part"] == "weights"]
    for entry in files:
        content = httpx.get(f"{base}/files/{entry['path']}").content
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        (folder / entry["path"]).write_bytes(content)
    with tarfile.open(fileobj=io.BytesIO(httpx.get(f"{base}/archive").content)) as archive:
        for entry in files:
            member = archive.extractfile(f"{job_id}-step-{step}/{entry['path']}")
            assert member is not None
            assert member.read() == (folder / entry["path"]).read_bytes()
    return folder


def test_the_log_of_the_training_can_be_read(
    service: Service, client: OpenAI, file_id: str
) -> None:
    job_id = create(client, file_id, max_steps=2, logging_steps=1)
    list(stream(service, job_id))

    log = httpx.get(f"{service.url}{JOBS}/{job_id}/logs")

    assert log.headers["content-type"].startswith("text/plain")
    kinds = {
        event.data["kind"]
        for event in client.fine_tuning.jobs.list_events(job_id)
        if event.type == "message"
    }
    assert {"state", "checkpoint"} <= kinds


def test_a_killed_worker_costs_nothing_but_time(
    service: Service, client: OpenAI, file_id: str
) -> None:
    """kill -9 of the worker in the middle; another one goes on from the last checkpoint."""
    calm = create(client, file_id, max_steps=150, save_steps=20)
    list(stream(service, calm))
    rough = create(client, file_id, max_steps=150, save_steps=20)
    until_step(service, rough, 45)

    service.kill("worker")
    published = client.fine_tuning.jobs.checkpoints.list(rough).data[0].step_number
    service.start_worker("worker")
    list(stream(service, rough))

    job = client.fine_tuning.jobs.retrieve(rough)
    assert job.status == "succeeded"
    assert losses(service, rough) == losses(service, calm)
    attempts = (job.model_extra or {})["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["lost", "succeeded"]
    assert attempts[1]["resumed_from_step"] == published


def test_a_stream_goes_on_where_the_killed_api_left_it(
    service: Service, client: OpenAI, file_id: str
) -> None:
    job_id = create(client, file_id, max_steps=100, save_steps=50)
    seen = until_step(service, job_id, 5)

    service.kill("api")
    service.start_api()
    rest = [event["seq"] for event in stream(service, job_id, after=seen)]

    assert rest == list(range(seen + 1, seen + 1 + len(rest)))
    assert client.fine_tuning.jobs.retrieve(job_id).status == "succeeded"


def test_a_worker_that_leaves_hands_its_job_to_another(
    service: Service, client: OpenAI, file_id: str
) -> None:
    """SIGTERM saves at a step boundary and gives the job back: no step is trained twice."""
    job_id = create(client, file_id, max_steps=300, save_strategy="no", logging_steps=1)
    until_step(service, job_id, 5)

    assert service.stop("worker") == 0
    waiting = client.fine_tuning.jobs.retrieve(job_id)
    service.start_worker("worker-2")
    events = list(stream(service, job_id))

    assert waiting.status == "queued"
    metrics = [event["data"] for event in events if event["type"] == "metrics"]
    assert [data["step"] for data in metrics if "train_loss" in data] == list(range(1, 301))
    attempts = (client.fine_tuning.jobs.retrieve(job_id).model_extra or {})["attempts"]
    assert [attempt["worker"] for attempt in attempts] == ["worker", "worker-2"]
    assert [attempt["outcome"] for attempt in attempts] == ["released", "succeeded"]


def test_a_pause_survives_the_end_of_everything(
    service: Service, client: OpenAI, file_id: str
) -> None:
    """Worker, API and broker are killed before the pause is done, and it is done all the same."""
    calm = create(client, file_id, max_steps=150, save_steps=20)
    list(stream(service, calm))
    paused = create(client, file_id, max_steps=150, save_steps=20)
    until_step(service, paused, 45)

    httpx.post(f"{service.url}{JOBS}/{paused}/pause").raise_for_status()
    for name in ("worker-2", "api", "broker"):
        service.kill(name)
    service.start_broker()
    service.start_api()
    service.start_worker("worker")
    until_status(service, paused, "paused")
    # The next one in the queue runs: the worker is up, and leaves the paused one alone.
    list(stream(service, create(client, file_id, max_steps=2)))
    assert client.fine_tuning.jobs.retrieve(paused).status == "paused"
    httpx.post(f"{service.url}{JOBS}/{paused}/resume").raise_for_status()
    list(stream(service, paused))

    assert client.fine_tuning.jobs.retrieve(paused).status == "succeeded"
    assert losses(service, paused) == losses(service, calm)


class Bomb:
    """What writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _messages(canary: Path) -> Iterator[tuple[bytes, str, dict[str, Any]]]:
    """Body, type and task of what somebody at the broker may send to workers."""
    run, text = {"task": "tuneyard.wake"}, "application/json"
    yield pickle.dumps([[Bomb(canary)], {}, {}]), "application/x-python-serialize", run
    yield json.dumps([[str(canary)], {"path": str(canary)}, {}]).encode(), text, run
    yield json.dumps([[f"touch {canary}"], {}, {}]).encode(), text, {"task": "os.system"}
    links = {"callbacks": [{"task": "os.system", "args": [f"touch {canary}"]}], "chain": None}
    yield json.dumps([[], {}, links]).encode(), text, run
    yield b"\xff{", text, run


def test_messages_by_hand_do_no_more_than_ring(
    service: Service, client: OpenAI, file_id: str, tmp_path: Path
) -> None:
    """Nothing of a message is run or unpickled, nobody can stop workers, and they go on."""
    canary = tmp_path / "canary"
    with Connection(service.environment["REDIS_URL"]) as connection:
        producer = connection.Producer(routing_key="celery")
        for number, (body, kind, headers) in enumerate(_messages(canary)):
            about = {"id": str(number), "root_id": str(number), "lang": "py", **headers}
            producer.publish(
                body,
                content_type=kind,
                content_encoding="utf-8" if kind.endswith("json") else "binary",
                headers=about,
                correlation_id=str(number),
            )
        Mailbox("celery", type="fanout")(connection).abcast("shutdown")

    pause, until = Event(), time.monotonic() + 180
    refusals = ("ContentDisallowed", "keyword argument 'path'", "task of type 'os.system'")
    while not all(refusal in service.log("worker") for refusal in refusals):
        assert time.monotonic() < until, service.log("worker")
        pause.wait(0.1)
    job_id = create(client, file_id, max_steps=1)

    assert [*stream(service, job_id)][-1]["data"]["status"] == "succeeded"
    assert not canary.exists()


def test_jobs_are_found_without_a_broker(service: Service, client: OpenAI, file_id: str) -> None:
    service.kill("broker")

    job_id = create(client, file_id, max_steps=2)
    list(stream(service, job_id))

    assert client.fine_tuning.jobs.retrieve(job_id).status == "succeeded"
