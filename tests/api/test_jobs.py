"""OpenAI's fine-tuning jobs: created, listed, cancelled, paused and resumed."""

from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from app.main import create_app
from cli.body import body_of
from cli.shown import job_page
from core.db import Database, database_now
from core.failure import Failure
from core.jobs import get_job, list_jobs
from core.models import Job
from core.queue import fail_attempt, stop_attempt
from core.settings import Settings
from core.states import FailureReason, JobStatus, Outcome
from tests.api.conftest import JOBS, LOCAL, NO_JOB, Site, changed, problem_of, serving
from tests.factories import POLICY

pytestmark = pytest.mark.every_database

DEAD_BROKER = "redis://127.0.0.1:1/0"
BAD_DATA = Failure(reason=FailureReason.INVALID_TRAINING_FILE, message="Line 7 is bad.")


def _job(site: Site, job_id: str) -> dict[str, Any]:
    body: dict[str, Any] = site.client.get(f"{JOBS}/{job_id}").json()
    return body


def _do(site: Site, job_id: str, action: str) -> dict[str, Any]:
    response = site.client.post(f"{JOBS}/{job_id}/{action}")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def _ids(site: Site, **query: str | int | list[str]) -> list[str]:
    page = site.client.get(JOBS, params=query).json()
    return [item["id"] for item in page["data"]]


def test_a_created_job_is_queued(site: Site) -> None:
    file_id = site.upload()

    job = site.post_job(training_file=file_id, suffix="mine", metadata={"team": "a"}).json()

    assert job["object"] == "fine_tuning.job"
    assert job["status"] == "queued"
    assert job["model"] == "local/tiny"
    assert job["training_file"] == file_id
    assert job["user_provided_suffix"] == "mine"
    assert job["metadata"] == {"team": "a"}
    assert job["queue"] == {"position": 0, "reason": "waits for a free worker; 0 ahead, 0 running"}
    assert job["fine_tuned_model"] is None
    assert job["error"] is None
    assert job["attempts"] == []
    assert (job["usage_metrics"], job["shared_with_openai"]) == (None, False)
    assert _job(site, job["id"]) == job


def test_the_trainers_own_arguments_are_shown_as_they_were_sent(site: Site) -> None:
    job = site.post_job(
        training={"learning_rate": 1e-3, "gradient_accumulation_steps": 4}, peft={"r": 4}, seed=7
    ).json()

    assert job["training"] == {"learning_rate": 1e-3, "gradient_accumulation_steps": 4}
    assert job["peft"] == {"r": 4}
    assert job["seed"] == 7


@pytest.mark.parametrize("where", ["hyperparameters", "method"])
def test_openais_hyperparameters_become_the_trainers(site: Site, where: str) -> None:
    given = {"n_epochs": 2, "batch_size": 3, "learning_rate_multiplier": 2.0}
    method = {"type": "supervised", "supervised": {"hyperparameters": given}}

    job = site.post_job(**{where: given if where == "hyperparameters" else method}).json()

    assert job["training"] == {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 3,
        "learning_rate": 4e-5,
    }
    assert job["hyperparameters"] == given
    assert job["method"]["supervised"]["hyperparameters"] == given


def test_a_hub_dataset_can_stand_in_for_a_file(site: Site) -> None:
    job = site.post_job(dataset={"path": "stanfordnlp/imdb", "split": "train[:1000]"}).json()

    assert job["training_file"] is None
    assert job["dataset"] == {"path": "stanfordnlp/imdb", "split": "train[:1000]"}


def test_a_warning_about_an_old_name_is_an_event(site: Site) -> None:
    job_id = site.submit(training={"evaluation_strategy": "no"})

    events = site.client.get(f"{JOBS}/{job_id}/events").json()["data"]

    assert [event["level"] for event in events] == ["warn", "info"]
    assert "eval_strategy" in events[0]["message"]


def test_the_job_is_committed_before_the_answer_begins(
    api_settings: Settings, database: Database
) -> None:
    app = create_app(api_settings)
    seen: list[list[str]] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def look_first(message: Message) -> None:
            if message["type"] == "http.response.start":
                with database.read() as session:
                    seen.append([job.id for job in list_jobs(session)])
            await send(message)

        await app(scope, receive, look_first if scope["type"] == "http" else send)

    with TestClient(watched, base_url=LOCAL) as client:
        body = {"model": "local/tiny", "dataset": {"path": "stanfordnlp/imdb"}}
        created = client.post(JOBS, json=body).json()
        client.post(f"{JOBS}/{created['id']}/cancel")

    assert seen == [[created["id"]], [created["id"]]]


def test_another_process_sees_a_job_that_was_answered(
    site: Site, url: str, migrated_url: str
) -> None:
    job_id = site.submit()
    other = Database(migrated_url)

    with other.read() as session:
        job = get_job(session, job_id)

    other.close()
    assert job.status is JobStatus.QUEUED


def test_a_broker_that_is_away_hinders_nobody(api_settings: Settings, database: Database) -> None:
    with serving(changed(api_settings, redis_url=DEAD_BROKER), database) as site:
        response = site.post_job()

        assert response.status_code == 200
        assert _job(site, response.json()["id"])["status"] == "queued"
        assert site.claim().job_id == response.json()["id"]


def test_jobs_are_listed_in_pages(site: Site) -> None:
    ids = [site.submit() for _ in range(5)]
    newest = ids[::-1]

    first = site.client.get(JOBS, params={"limit": 2}).json()
    second = site.client.get(JOBS, params={"limit": 3, "after": first["last_id"]}).json()

    assert [item["id"] for item in first["data"]] == newest[:2]
    assert (first["object"], first["has_more"]) == ("list", True)
    assert [item["id"] for item in second["data"]] == newest[2:]
    assert second["has_more"] is False


def test_jobs_are_filtered_by_all_of_the_metadata(site: Site) -> None:
    both = site.submit(metadata={"team": "a", "run": "1"})
    other = site.submit(metadata={"team": "a", "run": "2"})
    site.submit()

    assert _ids(site, **{"metadata[team]": "a"}) == [other, both]
    assert _ids(site, **{"metadata[team]": "a", "metadata[run]": "1"}) == [both]
    assert _ids(site, **{"metadata[team]": "b"}) == []
    assert _ids(site, **{"metadata[nothing]": "a"}) == []


def test_jobs_are_filtered_by_status_and_name(site: Site) -> None:
    running = site.start(suffix="faq").job_id
    queued, cancelled = site.submit(suffix="faq"), site.submit()
    site.client.post(f"{JOBS}/{cancelled}/cancel")

    assert _ids(site, status="running") == [running]
    assert _ids(site, status=["queued", "cancelled"]) == [cancelled, queued]
    assert _ids(site, name="faq", status="queued") == [queued]
    assert _ids(site, name=cancelled.removeprefix("ftjob-")[:16]) == [cancelled]
    assert _ids(site, name="ftjob_") == _ids(site, name="%") == []
    problem_of(site.client.get(JOBS, params={"status": "done"}), 400)


def test_jobs_are_searched_by_a_part_of_a_text(site: Site) -> None:
    plain, odd = site.submit(suffix="Support-Ja"), site.submit(suffix="100%_done")
    site.client.post(f"{JOBS}/{plain}/cancel")

    assert _ids(site, search="support") == [plain]
    assert _ids(site, search="%_") == [odd]
    assert _ids(site, search=odd[6:20], status="queued") == [odd]
    assert _ids(site, search="nowhere") == []


def test_a_list_tells_the_newest_attempt_of_each_job(site: Site) -> None:
    lease = site.start()
    site.submit()

    waiting, running = site.client.get(JOBS).json()["data"]

    assert (waiting["latest_attempt"], running["attempts"]) == (None, None)
    assert running["latest_attempt"]["worker"] == "worker-1"
    one = site.client.get(f"{JOBS}/{lease.job_id}").json()
    assert one["latest_attempt"] == one["attempts"][-1] == running["latest_attempt"]


def test_jobs_without_metadata_are_found(site: Site) -> None:
    plain = [site.submit(), site.submit(metadata=None), site.submit(metadata={})]
    site.submit(metadata={"team": "a"})

    assert _ids(site, metadata="null") == plain[::-1]


@pytest.mark.parametrize("key", ["a.b", 'a"b', "a'b", "$", "a[0]", "0", "gr\u00fc\u00dfe"])
def test_metadata_may_have_any_key(site: Site, key: str) -> None:
    job_id = site.submit(metadata={key: "yes"})

    assert _ids(site, **{f"metadata[{key}]": "yes"}) == [job_id]
    assert _ids(site, **{f"metadata[{key}]": "no"}) == []


def test_the_queue_tells_how_many_go_before(site: Site) -> None:
    first, second = site.submit(), site.submit()
    urgent = site.submit(priority=5)

    places = [_job(site, job_id)["queue"]["position"] for job_id in (urgent, first, second)]

    assert places == [0, 1, 2]


def test_a_queued_job_is_cancelled_at_once(site: Site) -> None:
    job_id = site.submit()

    job = _do(site, job_id, "cancel")

    assert job["status"] == "cancelled"
    assert job["finished_at"] is not None
    assert job["queue"] is None


def test_a_running_job_is_asked_to_stop(site: Site) -> None:
    lease = site.start()

    job = _do(site, lease.job_id, "cancel")

    assert job["status"] == "running"
    assert job["cancel_requested_at"] is not None


def test_a_cancel_that_was_asked_for_is_kept(site: Site) -> None:
    lease = site.start()
    _do(site, lease.job_id, "cancel?save=true")

    with site.database.write() as session:
        asked = session.get_one(Job, lease.job_id).save_on_cancel
        stop_attempt(session, lease, Outcome.CANCELLED, now=database_now(session))

    job = _job(site, lease.job_id)
    assert asked
    assert job["status"] == "cancelled"
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["cancelled"]


def test_to_cancel_twice_is_harmless(site: Site) -> None:
    queued = site.submit()
    first, second = _do(site, queued, "cancel"), _do(site, queued, "cancel")
    lease = site.start()
    third, fourth = _do(site, lease.job_id, "cancel"), _do(site, lease.job_id, "cancel")

    assert first == second
    assert third == fourth


@pytest.mark.parametrize("action", ["cancel", "pause", "resume"])
def test_a_job_that_is_over_stays_as_it_is(site: Site, action: str) -> None:
    lease = site.start()
    site.succeed(lease)

    error = problem_of(site.client.post(f"{JOBS}/{lease.job_id}/{action}"), 400)

    assert error["code"] == "invalid_state"
    assert "succeeded" in error["message"]
    assert _job(site, lease.job_id)["status"] == "succeeded"


def test_a_queued_job_pauses_and_resumes(site: Site) -> None:
    job_id = site.submit()

    paused, resumed = _do(site, job_id, "pause"), _do(site, job_id, "resume")

    assert (paused["status"], paused["queue"]) == ("paused", None)
    assert (resumed["status"], resumed["queue"]["position"]) == ("queued", 0)


def test_a_running_job_is_asked_to_pause_and_may_go_on(site: Site) -> None:
    lease = site.start()

    asked, withdrawn = _do(site, lease.job_id, "pause"), _do(site, lease.job_id, "resume")

    assert asked["status"] == "running"
    assert asked["pause_requested_at"] is not None
    assert withdrawn["status"] == "running"
    assert withdrawn["pause_requested_at"] is None


def test_a_job_that_does_not_pause_cannot_be_resumed(site: Site) -> None:
    error = problem_of(site.client.post(f"{JOBS}/{site.submit()}/resume"), 400)

    assert error["code"] == "invalid_state"


def test_a_finished_job_names_its_model(site: Site) -> None:
    lease = site.start()
    site.record(lease, step=3, total_steps=4)
    running = _job(site, lease.job_id)
    site.succeed(lease)

    job = _job(site, lease.job_id)

    assert running["progress"] == {"step": 3, "total_steps": 4, "fraction": 0.75, "phase": None}
    assert running["estimated_finish"] >= running["started_at"]
    assert job["status"] == "succeeded"
    assert job["fine_tuned_model"] == f"jobs/{lease.job_id}"
    assert job["trained_tokens"] == 7
    assert job["progress"]["fraction"] == 1
    assert job["estimated_finish"] is None


def test_a_failed_job_tells_why(site: Site) -> None:
    lease = site.start()
    with site.database.write() as session:
        fail_attempt(session, lease, BAD_DATA, now=database_now(session), policy=POLICY)

    job = _job(site, lease.job_id)

    error = {
        "code": "invalid_training_file",
        "message": "Line 7 is bad.",
        "param": None,
        "suggestion": FailureReason.INVALID_TRAINING_FILE.suggestion,
    }
    assert job["status"] == "failed"
    assert job["error"] == error
    assert job["attempts"][0]["outcome"] == "failed"
    assert job["attempts"][0]["error"] == error | {"evidence": None}


def test_a_trained_model_can_be_trained_on_pinned_to_its_step(site: Site) -> None:
    lease = site.start()
    site.publish(lease, 4, {"model.safetensors": b"weights"})
    site.succeed(lease)

    job_id = site.submit(model=f"jobs/{lease.job_id}")

    with site.database.read() as session:
        assert get_job(session, job_id).base_model == f"jobs/{lease.job_id}.step-4"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/logs"),
        ("GET", "/metrics"),
        ("GET", "/checkpoints"),
    ]
    + [("POST", f"/{action}") for action in ("cancel", "pause", "resume")],
)
def test_an_unknown_job_is_not_found(site: Site, method: str, path: str) -> None:
    error = problem_of(site.client.request(method, f"{JOBS}/{NO_JOB}{path}"), 404)

    assert (error["code"], error["param"]) == ("job_not_found", "fine_tuning_job_id")


def test_limits_are_shown_as_they_were_asked_for(site: Site) -> None:
    limits = {"max_seconds": 3600.0, "max_attempts": 2, "resources": {"memory": 2**30}}

    limited = site.client.get(f"{JOBS}/{site.submit(**limits)}").json()
    free = site.client.get(f"{JOBS}/{site.submit()}").json()

    assert {name: limited[name] for name in limits} == limits
    assert body_of(limited)["max_seconds"] == 3600
    assert free["max_seconds"] is None
    assert "at most 1 h 0 m an attempt" in job_page(limited, [], {}, server="", width=100)


@pytest.mark.parametrize("max_steps", [1, 4, None])
def test_a_retry_that_has_nothing_left_to_train_is_refused(
    site: Site, max_steps: int | None
) -> None:
    """It would "succeed" at once, without a checkpoint; None leaves the steps as they were."""
    lease = site.start(training={"max_steps": 4})
    for step in (2, 4):
        site.publish(lease, step, {"adapter_model.safetensors": b"weights"})
    with site.database.write() as session:
        fail_attempt(session, lease, BAD_DATA, now=database_now(session), policy=POLICY)
    url = f"{JOBS}/{lease.job_id}/retry"

    changes = {} if max_steps is None else {"training": {"max_steps": max_steps}}
    error = problem_of(site.client.post(url, json=changes), 400)

    assert error["param"] == "training.max_steps"
    assert "checkpoint of step 4" in error["message"]
    assert f"jobs/{lease.job_id}.step-4" in error["message"]
    assert _ids(site) == [lease.job_id]
    more = site.client.post(url, json={"training": {"max_steps": 5}})
    assert more.json()["retry_of"] == lease.job_id
