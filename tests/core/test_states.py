"""The state machine is data, and the documentation draws the same one."""

import re
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from core.errors import IllegalTransition, LeaseLost
from core.jobs import get_job, transition
from core.states import TRANSITIONS, FailureReason, JobStatus
from tests.factories import NOW, make_attempt, make_job

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("origin", "to"), list(product(JobStatus, JobStatus)))
def test_only_edges_of_the_table_can_be_taken(
    session: Session, origin: JobStatus, to: JobStatus
) -> None:
    job = make_job(session)
    job.status = origin
    session.flush()

    if to in TRANSITIONS[origin]:
        transition(session, job, to, now=NOW, message="moved")
        assert job.status is to
    else:
        with pytest.raises(IllegalTransition):
            transition(session, job, to, now=NOW, message="moved")
        assert get_job(session, job.id).status is origin


def test_terminal_states_have_no_edges() -> None:
    terminal = {status for status in JobStatus if status.is_terminal}

    assert terminal == {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}


def test_a_transition_of_a_stranger_is_refused(session: Session) -> None:
    job, _ = make_attempt(session)

    with pytest.raises(LeaseLost):
        transition(
            session, job, JobStatus.SUCCEEDED, now=NOW, message="mine", held_by="another token"
        )

    assert get_job(session, job.id).status is JobStatus.RUNNING


def test_no_other_place_assigns_a_status() -> None:
    """Every state change goes through one function, which checks the edge and adds the event."""
    # Uploads and deliveries of webhooks have a status too, which is a plain text.
    pattern = re.compile(r"(?<!upload)\.status\s*=[^=]|values\([^)]*status=(?!\")")
    hits = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in ("app", "core", "worker", "cli")
        for path in (ROOT / package).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]

    assert hits == []


def test_the_diagram_in_the_docs_has_the_edges_of_the_table() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = set(re.findall(r"^\s*(\w+) --> (\w+)$", text, re.MULTILINE))

    assert drawn == {(origin, to) for origin, edges in TRANSITIONS.items() for to in edges}


def test_failure_codes_are_unique() -> None:
    codes = [reason.code for reason in FailureReason]

    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("reason", list(FailureReason))
def test_every_failure_says_what_can_be_done_about_it(reason: FailureReason) -> None:
    assert reason.suggestion.endswith(".")
    assert len(reason.suggestion) > 20
