"""How often the database is asked for one request: each time costs the API as much as its own work.

A number that grows here is a job that takes longer to create, or a poller that costs more.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from tests.api.conftest import JOBS, Site, metrics

pytestmark = pytest.mark.every_database

PLANNED = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 1000,
}


@contextmanager
def _asked(site: Site) -> Iterator[list[str]]:
    """The statements of what is done meanwhile, without those that begin a transaction."""
    app = site.client.app
    app.state.chores.close()
    engine = app.state.services.database.engine
    asked: list[str] = []

    def note(*told: object) -> None:
        if not str(told[2]).startswith("BEGIN"):
            asked.append(str(told[2]))

    event.listen(engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine, "before_cursor_execute", note)


def _clock(site: Site) -> int:
    """PostgreSQL is asked for the time."""
    return int(site.database.engine.dialect.name == "postgresql")


@pytest.mark.parametrize("is_retry", [False, True], ids=["new", "retry"])
def test_a_job_is_created_in_a_few_statements(site: Site, models: Path, is_retry: bool) -> None:
    (models / "tiny" / "config.json").write_text(json.dumps(PLANNED))
    url, body = JOBS, {"model": "local/tiny", "training_file": site.upload()}
    if is_retry:
        url = f"{JOBS}/{site.submit()}"
        site.client.post(f"{url}/cancel")
        url, body = f"{url}/retry", {}

    with _asked(site) as asked:
        assert site.client.post(url, json=body).status_code == 200

    # The turn, the job, its events, the answer, the audit log.
    writes = [statement.split()[0] for statement in asked if not statement.startswith("SELECT")]
    assert writes == ["INSERT", "INSERT", "INSERT", "UPDATE", "INSERT"]
    # Keys, workers, file, experience, place; before a retry, the old job and its checkpoint.
    assert len(asked) - len(writes) == (7 if is_retry else 5)


def test_a_repeated_request_is_answered_in_a_few_statements(site: Site) -> None:
    body = {"model": "local/tiny", "training_file": site.upload()}
    headers = {"idempotency-key": "mine"}
    site.client.post(JOBS, json=body, headers=headers)

    with _asked(site) as asked:
        assert site.client.post(JOBS, json=body, headers=headers).status_code == 200

    assert len(asked) == 3 + _clock(site)


@pytest.mark.parametrize("status", ["queued", "running", "succeeded"])
def test_a_job_is_read_in_a_few_statements(site: Site, status: str) -> None:
    job_id = site.submit()
    if status != "queued":
        lease = site.claim()
    if status == "succeeded":
        site.succeed(lease)

    with _asked(site) as asked:
        assert site.client.get(f"{JOBS}/{job_id}").json()["status"] == status

    # Keys and the job; then workers and the place of one that waits, or the attempts.
    assert len(asked) == {"queued": 4, "running": 3, "succeeded": 3}[status] + _clock(site)


def test_a_page_of_jobs_or_events_is_read_in_a_few_statements(site: Site) -> None:
    lease = site.start()
    site.record(lease, *(metrics(step, loss=1.0) for step in range(9)))
    for _ in range(3):
        site.submit()

    with _asked(site) as asked:
        site.client.get(f"{JOBS}/{lease.job_id}/events")
        of_events = len(asked)
        site.client.get(JOBS)

    # Keys, the job, its events; keys, the jobs, attempts, workers, places.
    assert [of_events, len(asked) - of_events] == [3, 5 + _clock(site)]
