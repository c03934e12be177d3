"""Reading events back: pages, streams and metric columns."""

from sqlalchemy.orm import Session

from core.events import NewEvent, list_events, read_events, read_metrics
from core.ids import event_id, event_seq
from core.queue import Lease, claim_job, note_resume, record, rescue_jobs
from core.states import EventKind
from tests.factories import LEASE_SECONDS, POLICY, later, make_attempt


def _train(session: Session, lease: Lease, steps: range, loss: float) -> None:
    events = [
        NewEvent(kind=EventKind.METRICS, message="", data={"step": step, "train_loss": loss})
        for step in steps
    ]
    record(session, lease, events, now=later(1))


def test_pages_go_from_the_newest_to_the_oldest(session: Session) -> None:
    job, lease = make_attempt(session)
    _train(session, lease, range(1, 6), loss=1.0)

    first = list_events(session, job.id, limit=4)
    second = list_events(session, job.id, before_seq=first[-1].seq, limit=4)

    assert [event.seq for event in first + second] == [7, 6, 5, 4, 3, 2, 1]


def test_a_stream_goes_on_after_the_last_number_seen(session: Session) -> None:
    job, lease = make_attempt(session)
    _train(session, lease, range(1, 4), loss=1.0)

    assert [event.seq for event in read_events(session, job.id, after_seq=3)] == [4, 5]


def test_metrics_are_the_history_that_won(session: Session) -> None:
    """What a dead attempt trained beyond the checkpoint was trained again, and counts once."""
    job, lease = make_attempt(session)
    _train(session, lease, range(1, 9), loss=1.0)
    rescue_jobs(session, now=later(LEASE_SECONDS + 1), policy=POLICY)
    claimed = claim_job(session, worker="w", now=later(70), lease_seconds=60)
    assert claimed is not None
    note_resume(session, claimed[1], step=5, now=later(70))
    _train(session, claimed[1], range(6, 8), loss=2.0)

    metrics = read_metrics(session, job.id)

    assert metrics == {
        "step": [1, 2, 3, 4, 5, 6, 7],
        "train_loss": [1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0],
    }


def test_metrics_of_one_step_are_one_row(session: Session) -> None:
    job, lease = make_attempt(session)
    _train(session, lease, range(1, 3), loss=1.0)
    evaluation = NewEvent(kind=EventKind.METRICS, message="", data={"step": 2, "valid_loss": 3.0})
    record(session, lease, [evaluation], now=later(2))

    assert read_metrics(session, job.id) == {
        "step": [1, 2],
        "train_loss": [1.0, 1.0],
        "valid_loss": [None, 3.0],
    }


def test_event_ids_tell_job_and_number() -> None:
    identifier = event_id("ftjob-abc", 12)

    assert event_seq("ftjob-abc", identifier) == 12
    assert event_seq("ftjob-other", identifier) is None
    assert event_seq("ftjob-abc", "nonsense") is None
