"""The page of a job that is really trained, as a person uses it."""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from examples.tiny_model import make_tiny_model, write_pydoc_text
from tests.page.conftest import OpenPage
from tests.servers.service import Service, running_service

pytestmark = [pytest.mark.training, pytest.mark.process]

JOBS = "/v1/fine_tuning/jobs"
HOSTILE = "<img src=x onerror=alert(1)> \u202etxet"
STEPS = 60
WARM_MS = 180_000
"""A worker that starts on a busy machine imports torch for a minute."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("page-service")
    models = tmp_path_factory.mktemp("page-models")
    make_tiny_model("llama", models / "tiny-llama")
    url = f"sqlite:///{home / 'tuneyard.db'}"
    with running_service(home, database_url=url, models=models) as service:
        yield service


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page-data") / "text.jsonl"
    write_pydoc_text(path, rows=100)
    return path


@pytest.fixture(scope="module")
def file_id(service: Service, data: Path) -> str:
    answer = httpx.post(
        f"{service.url}/v1/files",
        data={"purpose": "fine-tune"},
        files={"file": (data.name, data.read_bytes())},
    )
    return str(answer.json()["id"])


def create(service: Service, file_id: str, *, max_steps: int, suffix: str = "slow") -> str:
    body = {
        "model": "local/tiny-llama",
        "training_file": file_id,
        "suffix": suffix,
        "training": {
            "max_steps": max_steps,
            "logging_steps": 1,
            "save_steps": 20,
            "max_length": 64,
            "per_device_train_batch_size": 4,
        },
    }
    answer = httpx.post(f"{service.url}{JOBS}", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def status(page: Page, word: str) -> None:
    expect(page.locator(".title [role=status]")).to_contain_text(word, timeout=WARM_MS)


def points(page: Page) -> int:
    card = page.get_by_role("region", name="Loss", exact=True)
    return int(card.get_attribute("data-points") or 0)


def wait_for_points(page: Page, count: int) -> None:
    page.wait_for_function(
        "count => Number(document.querySelector('[data-points]')?.dataset.points) >= count",
        arg=count,
        timeout=WARM_MS,
    )


def test_a_job_is_submitted_watched_and_taken_home(
    service: Service, data: Path, tmp_path: Path, open_page: OpenPage
) -> None:
    page = open_page(service.url, "/new")
    page.set_input_files("input[type=file]", data)
    expect(page.get_by_text("100 rows")).to_be_visible()
    page.get_by_label("Base model").fill("local/tiny-llama")
    page.get_by_label("Name of the job").fill(HOSTILE)
    page.get_by_text(re.compile("All [0-9]+ settings")).click()
    for name, value in {"max_steps": str(STEPS), "logging_steps": "1", "save_steps": "20"}.items():
        page.locator(f"input[name={name}]").fill(value)
    page.locator("input[name=max_length]").fill("64")
    expect(page.get_by_role("region", name="Plan")).to_contain_text("Peak memory")
    expect(page.get_by_role("region", name="The same job elsewhere")).to_contain_text("max_steps")
    page.get_by_role("button", name="Start the job").click()

    page.wait_for_url("**/jobs/ftjob-*")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x")
    wait_for_points(page, 20)
    seen = points(page)
    drawn = page.locator(".chart").first.get_attribute("data-to")
    assert int(drawn or 0) > 10, "the curve does not follow the job"
    page.reload()
    wait_for_points(page, seen)
    status(page, "Succeeded")
    wait_for_points(page, STEPS)
    assert points(page) == STEPS
    expect(page.locator(".chart").first).to_have_attribute("data-to", str(STEPS))

    job_id = page.url.rpartition("/")[2]
    with page.expect_download() as downloaded:
        page.get_by_role("button", name=f"Download step {STEPS}").click()
    archive = tmp_path / "model.tar"
    downloaded.value.save_as(archive)
    manifest = httpx.get(f"{service.url}{JOBS}/{job_id}/checkpoints/{STEPS}").json()["files"]
    with tarfile.open(archive) as tar:
        names = {Path(member.name).name: member for member in tar.getmembers() if member.isfile()}
        weights = tar.extractfile(names["model.safetensors"])
        assert weights is not None
        digest = hashlib.sha256(weights.read()).hexdigest()
    assert digest in json.dumps(manifest)


def test_a_job_is_paused_and_resumed(service: Service, file_id: str, open_page: OpenPage) -> None:
    job_id = create(service, file_id, max_steps=150)
    page = open_page(service.url, f"/jobs/{job_id}")
    wait_for_points(page, 2)

    page.get_by_role("button", name="Pause").click()
    status(page, "Paused")
    page.get_by_role("button", name="Resume").click()

    status(page, "Succeeded")
    wait_for_points(page, 150)
    assert points(page) == 150


def test_a_killed_worker_is_shown_and_the_job_goes_on(
    service: Service, file_id: str, open_page: OpenPage
) -> None:
    job_id = create(service, file_id, max_steps=200)
    page = open_page(service.url, f"/jobs/{job_id}")
    wait_for_points(page, 25)

    service.kill("worker")
    service.start_worker("second")

    expect(page.get_by_role("region", name="Attempts")).to_contain_text("second", timeout=WARM_MS)
    status(page, "Succeeded")
    wait_for_points(page, 200)
    assert points(page) == 200


def test_a_server_that_was_away_loses_no_point(
    service: Service, file_id: str, open_page: OpenPage
) -> None:
    job_id = create(service, file_id, max_steps=200)
    page = open_page(service.url, f"/jobs/{job_id}")
    wait_for_points(page, 5)

    service.kill("api")
    expect(page.get_by_text("Reconnecting…")).to_be_visible()
    service.start_api()

    status(page, "Succeeded")
    wait_for_points(page, 200)
    assert points(page) == 200
    card = page.get_by_role("region", name="Loss", exact=True)
    card.get_by_role("button", name="Table").click()
    steps = card.locator("tbody tr td:first-child")
    assert steps.all_inner_texts() == [str(step) for step in range(200, 0, -1)]


def test_a_failed_job_says_why_and_is_tried_again(
    service: Service, file_id: str, open_page: OpenPage
) -> None:
    body = {
        "model": "local/tiny-llama",
        "training_file": file_id,
        "training": {"max_steps": 2000, "max_length": 64},
        "max_seconds": 0.01,
    }
    job = httpx.post(f"{service.url}{JOBS}", json=body).json()
    page = open_page(service.url, f"/jobs/{job['id']}")

    why = page.get_by_role("region", name="Why it failed")
    expect(why).to_contain_text("max_seconds", timeout=WARM_MS)
    why.get_by_role("button", name="Retry unchanged").click()

    page.wait_for_url(lambda url: "/jobs/" in url and not url.endswith(job["id"]))
