"""What finished runs teach later plans: of their like, and of the rows that they had."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.dataset.encode import IGNORED, Tokens
from core.dataset.tokens import Cutting, TokenCounter
from core.db import database_now
from core.jobs import get_job
from core.models import PlanOutcome
from core.plan.trained import Trained
from core.queue import succeed_attempt
from tests.api.conftest import JOBS, Site, jsonl
from tests.api.test_plan import PLAN, SPLIT, make_worker, plan
from tests.unit.test_model_facts import LLAMA
from tests.unit.test_plan_memory import SMOLLM

LENGTH = 512
EVEN = [LENGTH] * 20
SHORT = [20] * 20
UNEVEN = [LENGTH, *SHORT[1:]]
LONG_ROWS = jsonl(*({"text": f"{number} " * 700} for number in range(20)))


@pytest.fixture
def site(site: Site, models: Path) -> Site:
    """The API with a worker, local/tiny of 0.2 and local/smollm of 135 million parameters."""
    (models / "tiny" / "config.json").write_text(json.dumps(LLAMA))
    (models / "smollm").mkdir()
    (models / "smollm" / "config.json").write_text(json.dumps(SMOLLM))
    with site.database.write() as session:
        make_worker(session)
    return site


def body_of(site: Site, model: str = "tiny", **training: Any) -> dict[str, Any]:
    """A job on long rows that are cut at LENGTH tokens."""
    return {
        "model": f"local/{model}",
        "training_file": site.upload(LONG_ROWS),
        "training": {"max_length": LENGTH, **training},
    }


def report(lengths: Sequence[int], learned: float = 1.0) -> dict[str, Any]:
    """The data report of rows of so many tokens, of which a share is learned."""
    counter = TokenCounter(Cutting(max_length=LENGTH))
    for length in lengths:
        masked = length - max(1, round(learned * length))
        labels = [IGNORED] * masked + [1] * (length - masked)
        counter.add(Tokens([1] * length, labels))
    return {"train": counter.report(trained_on="everything").to_dict(), "eval": None}


def finish(
    site: Site, body: dict[str, Any], data: dict[str, Any], *, memory: float, seconds: float = 1.0
) -> str:
    """Run a job that takes so many times what the arithmetic says of its rows; its id."""
    lease = site.start(**body)
    site.record(lease, data_report=data)
    with site.database.write() as session:
        job = get_job(session, lease.job_id)
        assert job.plan is not None
        trained = Trained.of(job.plan["basis"], job.training, data)
        succeed_attempt(
            session,
            lease,
            now=database_now(session),
            trained_tokens=7,
            peak_memory_bytes=round(memory * trained.peak_bytes),
            seconds_per_step=seconds * trained.seconds_per_step(cpus=2),
        )
    return lease.job_id


def correction(site: Site, body: dict[str, Any]) -> dict[str, Any]:
    """What a plan is multiplied by, and by how many runs."""
    found: dict[str, Any] = plan(site, **body)["correction"]
    return found


def test_later_plans_use_what_finished_runs_have_measured(site: Site) -> None:
    body = body_of(site)
    before = plan(site, **body)["taken"]["peak_memory_bytes"]
    lease = site.start(**body)
    site.record(lease, data_report=report(EVEN))
    with site.database.write() as session:
        succeed_attempt(
            session,
            lease,
            now=database_now(session),
            trained_tokens=7,
            peak_memory_bytes=round(1.2 * before),
            seconds_per_step=0.5,
        )

    after = plan(site, **body)

    assert after["correction"]["peak_memory"] == pytest.approx(1.2, rel=1e-3)
    assert after["correction"]["runs"] == after["correction"]["timed_runs"] == 1
    assert after["taken"]["peak_memory_bytes"] == pytest.approx(1.2 * before, rel=1e-3)
    assert after["seconds_are"] == "measured"
    assert correction(site, body | {"peft": {"r": 8}})["runs"] == 0
    with site.database.read() as session:
        measured = get_job(session, lease.job_id).measured
    assert measured is not None
    assert measured["peak_memory_bytes"] == round(1.2 * before)


def test_a_tiny_model_says_nothing_of_a_large_one(site: Site) -> None:
    """A step of a tiny model is all calls: 30 times the arithmetic there is no news elsewhere."""
    before = plan(site, **body_of(site, "smollm"))
    finish(site, body_of(site), report(EVEN), memory=1.4, seconds=30)

    large = plan(site, **body_of(site, "smollm"))

    assert large["total_seconds"] == before["total_seconds"]
    assert large["taken"] == before["taken"]
    assert large["seconds_are"] == "guess"
    tiny = correction(site, body_of(site))
    assert (tiny["peak_memory"], tiny["seconds_per_step"]) == pytest.approx((1.4, 30), rel=1e-3)

    finish(site, body_of(site, "smollm"), report(EVEN), memory=1.1, seconds=2)

    own = correction(site, body_of(site, "smollm"))
    assert (own["peak_memory"], own["seconds_per_step"]) == pytest.approx((1.1, 2), rel=1e-3)
    assert correction(site, body_of(site)) == tiny


def test_the_time_of_a_small_step_says_nothing_of_a_large_one(site: Site) -> None:
    finish(site, body_of(site), report(EVEN), memory=1.1, seconds=30)

    large = correction(site, body_of(site, **{SPLIT[1]: 16}))

    assert large["runs"] == 1
    assert (large["timed_runs"], large["seconds_per_step"]) == (0, 1.0)


def test_the_nearest_runs_have_the_say(site: Site) -> None:
    """Newer runs of models of twice the size do not outvote older ones of the same."""
    finish(site, body_of(site), report(EVEN), memory=1.1)
    with site.database.write() as session:
        row = session.query(PlanOutcome).one()
        names = [column.key for column in PlanOutcome.__table__.columns]
        values = {name: getattr(row, name) for name in names}
        for number in range(20):
            factor, ratio = (1, 1.1) if number < 8 else (2, 1.4)
            changed = {
                "job_id": f"ftjob-{number}",
                "created_at": row.created_at + timedelta(seconds=number),
                "parameters": factor * values["parameters"],
                "measured_memory_bytes": round(ratio * row.raw_memory_bytes),
            }
            session.add(PlanOutcome(**values | changed))

    assert correction(site, body_of(site))["peak_memory"] == pytest.approx(1.1, rel=1e-3)


def test_short_rows_are_compared_with_the_prediction_for_short_rows(site: Site) -> None:
    body = body_of(site, "smollm")
    told = plan(site, **body)["taken"]["peak_memory_bytes"]

    job_id = finish(site, body, report(SHORT), memory=0.98)

    (row,) = site.client.get(f"{PLAN}/accuracy").json()["data"]
    predicted, measured = (row[kind]["peak_memory_bytes"] for kind in ("predicted", "measured"))
    assert measured < 0.5 * told
    assert measured == pytest.approx(0.98 * predicted, rel=1e-3)
    assert row["longest_row_tokens"] == 20
    assert correction(site, body)["runs"] == 0
    short = correction(site, body_of(site, "smollm", max_length=20))
    assert short["peak_memory"] == pytest.approx(0.98, rel=1e-3)
    job = site.client.get(f"{JOBS}/{job_id}").json()
    assert job["plan"]["peak_memory_bytes"] == told
    assert "basis" not in job["plan"]


@pytest.mark.parametrize(
    ("data", "measured", "learned"),
    [
        (report(EVEN), 0.8, 0.8),
        (report(UNEVEN), 0.6, 1.0),
        (report(UNEVEN), 1.2, 1.2),
        (report(EVEN, learned=0.1), 0.6, 1.0),
    ],
    ids=["even", "uneven", "uneven-above", "masked"],
)
def test_only_rows_that_fill_what_was_planned_lower_a_plan(
    site: Site, data: dict[str, Any], measured: float, learned: float
) -> None:
    finish(site, body_of(site), data, memory=measured)

    found = correction(site, body_of(site))["peak_memory"]

    assert found == pytest.approx(learned, rel=1e-3)


def test_outcomes_of_before_they_were_like_with_like_teach_nothing(site: Site) -> None:
    finish(site, body_of(site), report(EVEN), memory=0.7)
    with site.database.write() as session:
        row = session.query(PlanOutcome).one()
        row.parameters = row.longest_tokens = row.step_tokens = row.is_filled = None

    assert correction(site, body_of(site))["runs"] == 0
    assert site.client.get(f"{PLAN}/accuracy").json()["runs"] == 0


def test_accuracy_tells_how_far_off_the_plans_were(site: Site) -> None:
    finish(site, body_of(site), report(EVEN), memory=1 / 1.1)

    answer = site.client.get(f"{PLAN}/accuracy").json()

    assert answer["runs"] == 1
    group = answer["groups"][0]
    assert (group["family"], group["method"]) == ("llama", "full")
    assert group["peak_memory"]["highest"] == pytest.approx(0.1, abs=1e-3)
    assert answer["data"][0]["is_filled"] is True


def test_a_job_that_went_on_in_smaller_pieces_does_not_count(site: Site) -> None:
    lease = site.start()
    site.record(lease, training={SPLIT[0]: 4, SPLIT[1]: 2}, data_report=report(EVEN))
    with site.database.write() as session:
        now = database_now(session)
        succeed_attempt(session, lease, now=now, trained_tokens=7, peak_memory_bytes=1)

    with site.database.read() as session:
        assert session.query(PlanOutcome).count() == 0
