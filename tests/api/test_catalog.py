"""Models, results and permissions: what there is after a job, and who may use it."""

import pytest

from core.base_model import parse_model, pin_model
from core.db import database_now
from core.errors import ModelNotFound
from core.events import read_metrics
from core.models import Job
from core.queue import Lease, succeed_attempt
from core.results import metrics_csv, store_results
from tests.api.conftest import JOBS, NO_JOB, Site, metrics, problem_of
from tests.factories import facts_reader

MODELS = "/v1/models"


@pytest.fixture
def job_id(site: Site) -> str:
    """A job that succeeded, with checkpoints of steps 2 and 4."""
    lease = site.start()
    for step in (2, 4):
        site.publish(lease, step, {"model.safetensors": b"weights"})
    site.succeed(lease)
    return lease.job_id


def _permissions(job_id: str, step: int = 2) -> str:
    return f"/v1/fine_tuning/checkpoints/jobs%2F{job_id}.step-{step}/permissions"


@pytest.mark.parametrize("suffix", ["", ".step-2", ".step-4"])
def test_a_job_and_each_of_its_checkpoints_are_models(site: Site, job_id: str, suffix: str) -> None:
    model = site.client.get(f"{MODELS}/jobs%2F{job_id}{suffix}").json()

    assert (model["id"], model["object"]) == (f"jobs/{job_id}{suffix}", "model")
    assert model["created"] > 0


@pytest.mark.parametrize(
    "name", ["local/nope", "facebook/opt-350m", "..", f"jobs/{NO_JOB}", "jobs/x", "jobs/.step-9"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_is_no_model_here_is_not_found(site: Site, name: str, method: str) -> None:
    response = site.client.request(method, f"{MODELS}/{name.replace('/', '%2F')}")

    if name != "..":  # which the client itself takes for the folder above
        assert problem_of(response, 404)["code"] == "model_not_found"


def test_a_deleted_model_takes_its_bytes_along_and_leaves_the_job(site: Site, job_id: str) -> None:
    answer = site.client.delete(f"{MODELS}/jobs/{job_id}").json()

    assert answer == {"id": f"jobs/{job_id}", "object": "model", "deleted": True}
    job = site.client.get(f"{JOBS}/{job_id}").json()
    assert (job["status"], job["fine_tuned_model"]) == ("succeeded", None)
    assert site.client.get(f"{JOBS}/{job_id}/checkpoints").json()["data"] == []
    assert not [path for path in site.stored() if "step-" in str(path)]
    problem_of(site.client.delete(f"{MODELS}/jobs/{job_id}"), 404)


def test_one_checkpoint_can_be_deleted(site: Site, job_id: str) -> None:
    assert site.client.delete(f"{MODELS}/jobs%2F{job_id}.step-4").json()["deleted"]

    left = site.client.get(f"{JOBS}/{job_id}/checkpoints").json()["data"]
    assert [checkpoint["step_number"] for checkpoint in left] == [2]
    assert site.client.get(f"{MODELS}/jobs/{job_id}").status_code == 200


def test_a_folder_of_the_operator_cannot_be_deleted(site: Site) -> None:
    problem_of(site.client.delete(f"{MODELS}/local/tiny"), 403)

    assert site.client.get(f"{MODELS}/local/tiny").status_code == 200


def test_a_model_that_a_job_needs_cannot_be_deleted(site: Site, job_id: str) -> None:
    site.submit(model=f"jobs/{job_id}")

    assert problem_of(site.client.delete(f"{MODELS}/jobs/{job_id}"), 400)["code"] == "invalid_state"


def test_a_model_in_the_making_cannot_be_deleted(site: Site) -> None:
    lease = site.start()
    site.publish(lease, 2, {"model.safetensors": b"weights"})

    response = site.client.delete(f"{MODELS}/jobs/{lease.job_id}")

    assert problem_of(response, 400)["code"] == "invalid_state"


def _succeed_with_results(site: Site, lease: Lease) -> None:
    with site.database.read() as session:
        columns = read_metrics(session, lease.job_id)
    results = store_results(site.storage, columns)
    with site.database.write() as session:
        now = database_now(session)
        succeed_attempt(
            session, lease, now=now, trained_tokens=7, peak_memory_bytes=None, results=results
        )


def test_the_metrics_of_a_job_are_a_file(site: Site) -> None:
    lease = site.start()
    site.record(lease, metrics(1, train_loss=2.5), metrics(2, train_loss=1.25, valid_loss=2.0))
    _succeed_with_results(site, lease)

    (file_id,) = site.client.get(f"{JOBS}/{lease.job_id}").json()["result_files"]

    file = site.client.get(f"/v1/files/{file_id}").json()
    assert (file["purpose"], file["filename"]) == ("fine-tune-results", "step_metrics.csv")
    content = site.client.get(f"/v1/files/{file_id}/content").text
    assert content == "step,train_loss,valid_loss\n1,2.5,\n2,1.25,2.0\n"
    found = site.client.get("/v1/files", params={"purpose": "fine-tune-results"}).json()["data"]
    assert [item["id"] for item in found] == [file_id]


def test_a_job_without_metrics_has_no_results(site: Site) -> None:
    lease = site.start()
    _succeed_with_results(site, lease)

    assert site.client.get(f"{JOBS}/{lease.job_id}").json()["result_files"] == []


def test_numbers_survive_the_table() -> None:
    assert metrics_csv({"step": [1], "loss": [0.1 + 0.2]}) == b"step,loss\n1,0.30000000000000004\n"


def test_a_permission_is_given_listed_and_taken_back(site: Site, job_id: str) -> None:
    url = _permissions(job_id)
    created = site.client.post(url, json={"project_ids": ["proj_a", "proj_b", "proj_a"]}).json()

    assert created["object"] == "list"
    assert [item["project_id"] for item in created["data"]] == ["proj_a", "proj_b"]
    assert {item["object"] for item in created["data"]} == {"checkpoint.permission"}
    again = site.client.post(url, json={"project_ids": ["proj_b"]}).json()
    assert again["data"] == created["data"][1:]
    ascending = site.client.get(url, params={"order": "ascending", "limit": 1}).json()
    assert ascending["has_more"]
    after = {"order": "ascending", "after": ascending["last_id"]}
    rest = site.client.get(url, params=after).json()
    both = ascending["data"] + rest["data"]
    assert sorted(item["id"] for item in both) == sorted(item["id"] for item in created["data"])
    one = site.client.get(url, params={"project_id": "proj_b"}).json()["data"]
    assert one == created["data"][1:]

    permission_id = created["data"][0]["id"]
    deleted = site.client.delete(f"{url}/{permission_id}").json()
    assert deleted == {"id": permission_id, "object": "checkpoint.permission", "deleted": True}
    problem_of(site.client.delete(f"{url}/{permission_id}"), 404)
    assert len(site.client.get(url).json()["data"]) == 1


@pytest.mark.parametrize("body", [{}, {"project_ids": []}, {"project_ids": [1]}, {"projects": []}])
def test_a_bad_permission_names_its_field(site: Site, job_id: str, body: object) -> None:
    assert problem_of(site.client.post(_permissions(job_id), json=body), 400)["param"]


@pytest.mark.parametrize("checkpoint", ["local%2Ftiny", "x", f"jobs%2F{NO_JOB}.step-2"])
def test_a_checkpoint_that_is_not_there_is_not_found(site: Site, checkpoint: str) -> None:
    url = f"/v1/fine_tuning/checkpoints/{checkpoint}/permissions"

    problem_of(site.client.get(url), 404)
    problem_of(site.client.post(url, json={"project_ids": ["proj_a"]}), 404)


def test_only_a_permitted_project_trains_on_anothers_checkpoint(site: Site, job_id: str) -> None:
    name = f"jobs/{job_id}.step-2"
    site.client.post(_permissions(job_id), json={"project_ids": ["proj_a"]})

    with site.database.read() as session:
        assert pin_model(session, name, model_roots=[], project_id="proj_a") == name
        for project_id, other in (("proj_b", name), ("proj_a", f"jobs/{job_id}")):
            with pytest.raises(ModelNotFound):
                pin_model(session, other, model_roots=[], project_id=project_id)
        with pytest.raises(ModelNotFound):
            pin_model(session, f"jobs/{job_id}.step-4", model_roots=[], project_id="proj_a")


def test_the_facts_of_a_permitted_checkpoint_are_those_of_its_base(site: Site, job_id: str) -> None:
    site.client.post(_permissions(job_id), json={"project_ids": ["proj_a"]})
    reader = facts_reader([])

    with site.database.write() as session:
        job = session.get_one(Job, job_id)
        assert parse_model(job.base_model).kind == "local"
        with pytest.raises(ModelNotFound, match="local/tiny"):
            reader.read(session, f"jobs/{job_id}.step-2", project_id="proj_a")


def test_an_integration_is_refused_with_what_to_do_instead(site: Site) -> None:
    wandb = {"type": "wandb", "wandb": {"project": "p"}}

    error = problem_of(site.post_job(integrations=[wandb]), 400)

    assert error["param"] == "integrations"
    assert "result_files" in error["message"]
    assert site.post_job(integrations=[]).json()["integrations"] == []
    assert site.post_job(integrations=None).json()["integrations"] == []
