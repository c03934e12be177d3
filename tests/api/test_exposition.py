"""What Prometheus is told: the service from SQL, this process' requests, and neither too much."""

from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from core.db import Database, database_now
from core.keys import Scope
from core.measures import measure
from core.models import WebhookDelivery, Worker
from core.webhooks import announce, create_endpoint
from tests.api.conftest import JOBS, NO_JOB, Site, problem_of
from tests.api.test_keys import bearer, make_key

ENDED = "fine_tuning.job.failed"
Samples = dict[tuple[Any, ...], float]


def told(site: Site) -> Samples:
    """Every sample by its name and the values of its labels."""
    answer = site.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def add_workers(database: Database, **ages: float) -> None:
    """Workers that were seen so many seconds ago; one named drained is."""
    with database.write() as session:
        now = database_now(session)
        for name, age in ages.items():
            seen = now - timedelta(seconds=age)
            facts = {"scratch_free_bytes": 5_000, "storage_free_bytes": None}
            drained = now if name == "drained" else None
            session.add(
                Worker(name=name, heartbeat_at=seen, slots=1, facts=facts, drained_at=drained)
            )


def test_jobs_and_attempts_are_counted_by_what_they_are(site: Site) -> None:
    before = told(site)
    site.succeed(site.start())
    site.release(site.start())
    site.submit()

    after = told(site)

    assert before["tuneyard_jobs", "queued"] == before["tuneyard_attempts", "lost"] == 0
    assert before["tuneyard_queue_oldest_seconds",] == 0
    assert after["tuneyard_jobs", "succeeded"] == 1
    assert after["tuneyard_jobs", "queued"] == 2
    assert after["tuneyard_attempts", "succeeded"] == 1
    assert after["tuneyard_attempts", "released"] == 1
    assert 0 < after["tuneyard_queue_oldest_seconds",] < 60


def test_workers_are_told_by_their_state_their_age_and_their_room(site: Site) -> None:
    add_workers(site.database, here=1, drained=2, away=600, gone=200_000)

    found = told(site)

    assert [found["tuneyard_workers", state] for state in ("ready", "drained", "away")] == [1, 1, 1]
    assert 600 <= found["tuneyard_worker_heartbeat_age_seconds", "away"] < 700
    assert found["tuneyard_worker_scratch_free_bytes", "here"] == 5_000
    assert ("tuneyard_worker_storage_free_bytes", "here") not in found
    assert not [sample for sample in found if "gone" in sample]


def test_webhooks_that_wait_and_that_failed_are_told(site: Site) -> None:
    with site.database.write() as session:
        now = database_now(session)
        create_endpoint(
            session,
            name="a",
            url="https://a.example",
            event_types=[ENDED],
            now=now,
            project_id="default",
        )
        # Nobody who is at work here takes it before we have looked.
        for status in ("failed", "pending", "failed"):
            announce(session, "default", ENDED, {"id": NO_JOB}, now=now)
            session.flush()
            newest = session.query(WebhookDelivery).filter_by(status="pending").first()
            assert newest is not None
            newest.status = status
        found = measure(session, now=now)
        session.rollback()

    assert (found.deliveries_due, found.deliveries_failed) == (1, 2)
    assert told(site)["tuneyard_webhook_deliveries", "due"] == 0


def test_requests_are_counted_by_their_route_and_never_by_their_path(site: Site) -> None:
    """Who asks for a thousand paths, or by made-up methods, makes no series."""
    site.client.get(f"{JOBS}/{NO_JOB}/events")
    for number in range(5):
        site.client.get(f"{JOBS}/ftjob-{number}")
        site.client.get(f"/nothing/{number}")
        site.client.request(f"WORD{number}", "/v1/files")

    found = told(site)

    counted = {sample[1:]: n for sample, n in found.items() if "requests_total" in sample[0]}
    assert counted["GET", f"{JOBS}/{{job_id}}/events", "404"] == 1
    assert counted["GET", f"{JOBS}/{{job_id}}", "404"] == 5
    assert counted["GET", "none", "404"] == 5
    assert sum(n for (method, *_), n in counted.items() if method == "other") == 5
    assert len(counted) < 8
    assert found["tuneyard_http_request_duration_seconds_count", "GET", f"{JOBS}/{{job_id}}"] == 5


@pytest.mark.parametrize("scope", Scope)
def test_numbers_are_for_keys_of_the_default_project(site: Site, scope: Scope) -> None:
    ours = make_key(site.database, scope=scope)
    theirs = make_key(site.database, scope=scope, project="other")

    problem_of(site.client.get("/metrics"), 401)
    problem_of(site.client.get("/metrics", headers=bearer(theirs)), 403)
    assert site.client.get("/metrics", headers=bearer(ours)).status_code == 200


def test_a_look_takes_the_same_queries_however_much_there_is(site: Site) -> None:
    asked: list[str] = []
    counts = []
    event.listen(
        site.database.engine, "before_cursor_execute", lambda *told: asked.append(str(told[2]))
    )
    for turn in ("first", "second"):
        with site.database.read() as session:
            now = database_now(session)
            asked.clear()
            measure(session, now=now)
            counts.append(len([said for said in asked if said.startswith("SELECT")]))
        add_workers(site.database, **{f"{turn}-{number}": 1.0 for number in range(3)})
        for _ in range(3):
            site.succeed(site.start())

    assert counts == [6, 6]
