"""A request is done once: by its Idempotency-Key, or as a retry that a client makes by itself."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from httpx import Response
from openai import OpenAI
from sqlalchemy import select, update

from core.access import AuditEntry
from core.answers import (
    KEPT,
    RETRIED_WITHIN,
    Ticket,
    forget_answers,
    keep_answer,
    open_ticket,
    take_turn,
)
from core.db import Database, began_at, database_now
from core.models import Answer
from core.settings import Settings
from tests.api.conftest import JOBS, Site, problem_of

pytestmark = pytest.mark.every_database

ROOT = Path(__file__).resolve().parents[2]
AGAIN = {"x-stainless-retry-count": "1"}
FIRST = {"x-stainless-retry-count": "0"}


@pytest.fixture
def body(site: Site) -> dict[str, Any]:
    """A request that is not a retry of any other."""
    return {"model": "local/tiny", "training_file": site.upload()}


def _post(site: Site, body: dict[str, Any], **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response: Response = site.client.post(JOBS, json=body, headers=named)
    return response


def _count(site: Site) -> int:
    return len(site.client.get(JOBS).json()["data"])


def _make_older(database: Database, age: timedelta) -> None:
    with database.write() as session:
        session.execute(update(Answer).values(created_at=database_now(session) - age))


def test_the_same_key_and_body_get_the_same_answer(site: Site, body: dict[str, Any]) -> None:
    first = _post(site, body, idempotency_key="mine")
    job_id = first.json()["id"]
    site.client.post(f"{JOBS}/{job_id}/cancel")

    second = _post(site, dict(reversed(body.items())), idempotency_key="mine")

    assert second.status_code == 200
    assert second.content == first.content
    assert second.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert _count(site) == 1


def test_the_same_key_with_another_body_is_a_conflict(site: Site, body: dict[str, Any]) -> None:
    _post(site, body, idempotency_key="mine")

    response = _post(site, body | {"seed": 3}, idempotency_key="mine")

    assert problem_of(response, 409)["code"] == "idempotency_conflict"
    assert response.headers["x-should-retry"] == "false"
    assert _count(site) == 1


def test_another_key_makes_another_job(site: Site, body: dict[str, Any]) -> None:
    ids = {_post(site, body, idempotency_key=key).json()["id"] for key in ("a", "b", "A")}

    assert len(ids) == 3


def test_a_key_is_free_again_after_a_day(
    site: Site, body: dict[str, Any], database: Database
) -> None:
    first = _post(site, body, idempotency_key="mine").json()["id"]
    _make_older(database, KEPT + timedelta(seconds=1))

    second = _post(site, body | {"seed": 3}, idempotency_key="mine")

    assert second.status_code == 200
    assert second.json()["id"] != first


def test_a_request_that_failed_does_not_use_its_key_up(site: Site, body: dict[str, Any]) -> None:
    wrong = _post(site, body | {"training_file": "file-nope"}, idempotency_key="mine")
    right = _post(site, body, idempotency_key="mine")

    assert (wrong.status_code, right.status_code) == (404, 200)


@pytest.mark.parametrize("key", ["", "a" * 256])
def test_a_key_has_a_length(site: Site, body: dict[str, Any], key: str) -> None:
    assert problem_of(_post(site, body, idempotency_key=key), 400)["param"] == "Idempotency-Key"


def test_a_silent_retry_makes_no_second_job(site: Site, body: dict[str, Any]) -> None:
    first = _post(site, body, **FIRST)
    second = _post(site, body, **AGAIN)

    assert second.content == first.content
    assert _count(site) == 1


def test_asking_twice_is_no_retry(site: Site, body: dict[str, Any]) -> None:
    ids = {_post(site, body, **FIRST).json()["id"] for _ in range(2)}
    retried = _post(site, body, **AGAIN).json()["id"]

    assert len(ids) == 2
    assert retried in ids


def test_a_retry_with_another_body_is_another_job(site: Site, body: dict[str, Any]) -> None:
    first = _post(site, body, **FIRST).json()["id"]

    assert _post(site, body | {"seed": 3}, **AGAIN).json()["id"] != first


def test_a_retry_long_after_is_another_job(
    site: Site, body: dict[str, Any], database: Database
) -> None:
    first = _post(site, body, **FIRST).json()["id"]
    _make_older(database, RETRIED_WITHIN + timedelta(seconds=1))

    assert _post(site, body, **AGAIN).json()["id"] != first


def _ticket(database: Database, *, is_retry: bool) -> Ticket:
    with database.read() as session:
        now = database_now(session)
    return open_ticket(scope="a", body={"b": 1}, key=None, is_retry=is_retry, began_at=now)


def _do(database: Database, ticket: Ticket, answer: str) -> str:
    with database.write() as session:
        _, found = take_turn(session, ticket)
        if found is None:
            keep_answer(session, ticket, answer)
        return found or answer


def test_an_attempt_that_its_own_retry_overtook_is_answered_like_it(database: Database) -> None:
    slow = _ticket(database, is_retry=False)
    fast = _ticket(database, is_retry=True)

    assert _do(database, fast, "job 1") == "job 1"
    assert _do(database, slow, "job 2") == "job 1"
    assert _do(database, _ticket(database, is_retry=False), "job 3") == "job 3"


def test_an_attempt_without_a_ticket_of_its_own_time_is_answered_like_its_retry(
    database: Database,
) -> None:
    """Whoever takes a turn at once came in when its transaction began."""
    slow = replace(_ticket(database, is_retry=False), began_at=None)
    fast = _ticket(database, is_retry=True)
    answers: list[str] = []

    def overtaken() -> None:
        with database.write() as session:
            began_at(session)
            has_begun.set()
            is_overtaken.wait(60)
            _, found = take_turn(session, slow)
            answers.append(found or "job 2")

    has_begun, is_overtaken = threading.Event(), threading.Event()
    thread = threading.Thread(target=overtaken)
    thread.start()
    has_begun.wait(60)
    _do(database, fast, "job 1")
    is_overtaken.set()
    thread.join()

    assert answers == ["job 1"]
    with database.write() as session:
        _, found = take_turn(session, slow)
    assert found is None


def test_a_repeated_request_is_not_in_the_audit_log(
    site: Site, body: dict[str, Any], database: Database
) -> None:
    for _ in range(3):
        _post(site, body, idempotency_key="mine")

    with database.read() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.action == f"POST {JOBS}"))
        assert len(entries.all()) == 1


def test_old_answers_are_forgotten(site: Site, body: dict[str, Any], database: Database) -> None:
    _post(site, body, idempotency_key="old")
    _make_older(database, KEPT + timedelta(seconds=1))
    kept = _post(site, body, idempotency_key="new")

    with database.write() as session:
        assert forget_answers(session, now=database_now(session)) == 1
        assert forget_answers(session, now=database_now(session)) == 0
    assert _post(site, body, idempotency_key="new").content == kept.content


def test_of_many_at_the_same_time_one_is_done(site: Site, body: dict[str, Any]) -> None:
    answers: list[bytes] = []

    def post() -> None:
        answers.append(_post(site, body, idempotency_key="mine").content)

    threads = [threading.Thread(target=post) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 6
    assert len(set(answers)) == 1
    assert _count(site) == 1


@contextmanager
def _server(
    factory: str, settings: Settings, models: Path, listener: socket.socket
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TUNEYARD_HOME": str(settings.home),
        "DATABASE_URL": settings.database_url,
        "MODEL_ROOTS": str(models),
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", factory]
    command += ["--fd", str(listener.fileno()), "--log-level", "warning"]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, pass_fds=[listener.fileno()])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "mine"}], ids=["silent", "keyed"])
def test_a_server_killed_between_commit_and_answer_makes_one_job(
    site: Site,
    body: dict[str, Any],
    api_settings: Settings,
    models: Path,
    headers: dict[str, str],
) -> None:
    made: list[str] = []

    def create(url: str) -> None:
        with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=3, timeout=60) as client:
            job = client.fine_tuning.jobs.create(**body, extra_headers=headers)
            made.append(job.id)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = threading.Thread(target=create, args=(url,))
        with _server("tests.api.dying:create_app", api_settings, models, listener) as dying:
            client.start()
            dying.wait(60)
        assert _count(site) == 1
        with _server("app.main:create_app", api_settings, models, listener):
            client.join(60)

    assert made == [site.client.get(JOBS).json()["data"][0]["id"]]
    assert _count(site) == 1
