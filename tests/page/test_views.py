"""What each view lets a person do, on a server whose worker is played by the test."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from core.db import database_now
from core.events import NewEvent
from core.failure import Failure
from core.models import Worker
from core.queue import Lease, fail_attempt
from core.states import EventKind, FailureReason
from tests.api.conftest import JOBS, Site, line, metrics
from tests.factories import POLICY
from tests.page.conftest import OpenPage

STEPS = 40
GIB = 1024**3
ADVICE = {
    "needed_bytes": 26 * GIB,
    "limit_bytes": 24 * GIB,
    "text": "micro-batch 2 x accumulation 4",
    "change": {"training": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}},
    "changed_bytes": 20 * GIB,
}
LOG = [f"line {number}" for number in range(1, 61)]


@pytest.fixture(scope="module")
def lease(site: Site) -> Lease:
    """A running job with a curve, a checkpoint, samples and a log."""
    lease = site.start(suffix="views", sample_prompts=["Hello"], training={"max_length": 256})
    points = [
        metrics(
            step,
            train_loss=5 / step,
            num_tokens=1000 * step,
            memory_bytes=GIB,
            logged_at=1_700_000_000 + 2 * step,
        )
        for step in range(1, STEPS + 1)
    ]
    site.record(lease, *points, step=STEPS, total_steps=2 * STEPS)
    site.record(lease, *map(line, LOG), line("ERROR: the needle"), line("another needle"))
    for step, said in ((20, "what it says later"), (0, "what it says")):
        data = {"step": step, "samples": [{"prompt": "Hello", "completion": said}]}
        site.record(lease, NewEvent(kind=EventKind.SAMPLES, message="Samples", data=data))
    site.publish(lease, 20, {"config.json": b"{}"})
    return lease


@pytest.fixture
def page(url: str, lease: Lease, open_page: OpenPage) -> Page:
    """The job's page."""
    page = open_page(url, f"/jobs/{lease.job_id}")
    expect(page.locator("[data-points]")).to_have_attribute("data-points", str(STEPS))
    return page


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True).first


def job_of(site: Site, page: Page) -> dict[str, Any]:
    page.wait_for_url("**/jobs/ftjob-*")
    job: dict[str, Any] = site.client.get(f"{JOBS}/{page.url.rpartition('/')[2]}").json()
    return job


def test_a_chart_is_zoomed_by_dragging_and_whole_again_by_a_double_click(page: Page) -> None:
    chart = card(page, "Loss").locator(".u-over")
    box = chart.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, middle, steps=5)
    page.mouse.up()

    whole = card(page, "Loss").get_by_role("button", name="Whole curve")
    expect(whole).to_be_visible()
    expect(card(page, "Loss").locator(".u-legend")).to_contain_text(re.compile(r"train\d"))
    chart.dblclick()
    expect(whole).to_have_count(0)


def test_the_curves_are_drawn_over_steps_tokens_and_time(page: Page) -> None:
    axis = card(page, "Loss").get_by_label("Over")
    chart = card(page, "Loss").locator(".chart")
    for name, last in {"tokens": 1000 * STEPS, "time": 2 * (STEPS - 1), "step": STEPS}.items():
        axis.select_option(name)
        expect(chart).to_have_attribute("data-to", str(last))
    expect(card(page, "Loss")).to_contain_text("checkpoint")


def test_memory_is_a_chart_and_a_table(page: Page) -> None:
    memory = card(page, "Memory")
    expect(memory.locator(".u-legend")).to_contain_text("used")
    memory.get_by_role("button", name="Table").click()

    expect(memory.locator("tbody tr")).to_have_count(STEPS)
    expect(memory.locator("tbody tr").first).to_have_text(f"{STEPS}{GIB}")


def test_samples_begin_before_the_training_and_their_changes_are_marked(page: Page) -> None:
    samples = card(page, "Samples")
    columns = samples.locator("thead th")
    expect(columns).to_have_text(["Prompt", "before training", "step 20"])
    samples.get_by_role("button", name="Mark changes").click()

    expect(samples.locator("ins")).to_have_text(["later"])


def test_the_log_is_read_by_keys_and_a_line_has_an_address(page: Page) -> None:
    log = page.get_by_role("log")
    page.keyboard.press("/")
    page.keyboard.type("needle")
    found = page.locator(".logs [role=status]")
    expect(found).to_have_text("1 / 2")
    page.keyboard.press("Enter")
    expect(found).to_have_text("2 / 2")
    log.focus()
    page.keyboard.press("Shift+N")
    expect(found).to_have_text("1 / 2")
    page.keyboard.press("g")
    page.keyboard.press("g")
    expect(log.get_by_text("line 1", exact=True)).to_be_in_viewport()
    log.get_by_text("5", exact=True).click()
    assert page.url.endswith("#L5")

    page.reload()
    expect(page.locator(".row.linked")).to_contain_text("line 5")
    expect(page.get_by_role("link", name="Raw")).to_have_attribute("href", re.compile("/logs$"))


def test_a_cancel_is_asked_once_with_what_it_loses(page: Page, site: Site, lease: Lease) -> None:
    page.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Keeps checkpoint 20. Loses 20 steps")
    dialog.get_by_role("button", name="Leave it").click()

    expect(dialog).to_have_count(0)
    assert site.client.get(f"{JOBS}/{lease.job_id}").json()["cancel_requested_at"] is None


def test_a_job_becomes_a_request_again(page: Page) -> None:
    settings = card(page, "Settings of this job")
    settings.get_by_role("button", name="As a request").click()
    settings.get_by_role("button", name="JSON").click()

    body = json.loads(settings.locator("pre").inner_text())
    assert body["training"] == {"max_length": 256}
    assert body["sample_prompts"] == ["Hello"]


def test_the_advice_of_a_failure_is_one_click(
    site: Site, lease: Lease, url: str, open_page: OpenPage
) -> None:
    batch = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    training = batch | {"max_length": 256}
    failed = site.start(suffix="no-room", max_attempts=1, training=training)
    site.record(failed, *map(line, LOG))
    evidence = {"step": 3, "log": LOG[-5:], "advice": ADVICE}
    failure = Failure(
        reason=FailureReason.INVALID_ARGUMENT, message="No room. <b>At all.</b>", evidence=evidence
    )
    with site.database.write() as session:
        fail_attempt(session, failed, failure, now=database_now(session), policy=POLICY)
    page = open_page(url, f"/jobs/{failed.job_id}")

    why = page.get_by_role("region", name="Why it failed")
    expect(why).to_contain_text("No room. <b>At all.</b>")
    expect(why).to_contain_text("26.0 GiB of 24.0 GiB".replace(" GiB", "\u2009GiB"))
    expect(why).to_contain_text("log lines 56 to 60")
    why.get_by_role("link", name="Show them in the log").click()
    expect(page.locator(".row.linked")).to_contain_text("line 56")
    why.get_by_role("button", name="Retry with micro-batch 2 · accumulation 4").click()

    page.wait_for_url(lambda url: not url.partition("#")[0].endswith(failed.job_id))
    again = job_of(site, page)
    assert again["retry_of"] == failed.job_id
    assert again["training"] == training | ADVICE["change"]["training"]  # type: ignore[index]


def test_the_list_is_walked_by_keys_and_searched_on_the_server(
    site: Site, lease: Lease, url: str, open_page: OpenPage
) -> None:
    site.submit(suffix="other")
    page = open_page(url, "/?q=views")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Search jobs").fill("")
    expect(page.get_by_role("link", name="other", exact=True)).to_be_visible()
    page.get_by_role("heading", name="Jobs").click()
    for key in "jxjx":
        page.keyboard.press(key)
    expect(page.locator("tr.ticked")).to_have_count(2)
    page.keyboard.press("c")

    page.wait_for_url("**/compare?ids=*")
    expect(page.get_by_role("region", name="Settings").first).to_contain_text("Differences only")


def test_the_palette_finds_jobs_and_pages(url: str, lease: Lease, open_page: OpenPage) -> None:
    page = open_page(url, "/files")
    expect(page.get_by_role("heading", name="Files")).to_be_visible()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox")).to_be_focused()
    page.keyboard.type("views")
    expect(page.get_by_role("option")).to_contain_text(["views"])
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{lease.job_id}")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Find a job or a page")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_draft_outlives_a_reload_and_its_errors_are_at_their_fields(
    url: str, site: Site, open_page: OpenPage
) -> None:
    page = open_page(url, f"/new?file={site.upload()}")
    page.get_by_label("Base model").fill("local/tiny")
    page.locator("input[name=learning_rate]").fill("7")
    page.get_by_label("Prompts to answer").fill("one\ntwo")
    page.wait_for_url(re.compile("#draft=.*two"))
    page.reload()

    expect(page.locator("input[name=learning_rate]")).to_have_value("7")
    page.get_by_role("button", name="Start the job").click()
    field = page.locator(".bad-field")
    expect(field).to_contain_text("learning_rate")
    expect(field.get_by_role("alert")).to_contain_text("at most 1")
    page.locator("input[name=learning_rate]").fill("1e-4")
    page.get_by_role("button", name="Start the job").dblclick()
    job = job_of(site, page)
    assert job["sample_prompts"] == ["one", "two"]
    assert job["training"] == {"learning_rate": 1e-4}


def test_all_settings_are_searched_and_a_request_is_pasted(
    url: str, site: Site, open_page: OpenPage
) -> None:
    page = open_page(url, "/new")
    page.get_by_role("button", name="Paste JSON").click()
    body = {
        "model": "local/tiny",
        "training_file": site.upload(),
        "training": {"weight_decay": 0.1},
        "metadata": {"team": "a"},
    }
    page.get_by_label("The JSON of a job's request").fill(json.dumps(body))
    page.get_by_role("button", name="Take it over").click()
    expect(page.locator("input[name=weight_decay]")).to_have_value("0.1")
    page.get_by_text(re.compile("All [0-9]+ settings")).click()
    page.get_by_label("Search settings").fill("label_smoothing")
    expect(page.locator("input[name=label_smoothing_factor]")).to_be_visible()
    expect(page.locator("input[name=adam_beta1]")).to_have_count(0)

    elsewhere = card(page, "The same job elsewhere")
    elsewhere.get_by_role("button", name="JSON").click()
    assert json.loads(elsewhere.locator("pre").inner_text()) == body


def test_workers_tell_their_room_and_whether_they_are_late(
    site: Site, lease: Lease, url: str, open_page: OpenPage
) -> None:
    facts = {
        "device": "cpu",
        "cpus": 4,
        "memory_bytes": 8 * GIB,
        "memory_free_bytes": 2 * GIB,
        "versions": {"torch": "2.0"},
    }
    with site.database.write() as session:
        now = database_now(session)
        for name, version in (("worker-1", "2.0"), ("worker-2", "2.1")):
            facts = facts | {"versions": {"torch": version}}
            session.add(Worker(name=name, heartbeat_at=now, slots=1, facts=facts))
    page = open_page(url, "/workers")

    first = card(page, "worker-1")
    expect(first).to_contain_text("views")
    expect(first).to_contain_text("2.0\u2009GiB free of 8.0\u2009GiB")
    expect(first).to_contain_text("not the same everywhere")
    second = card(page, "worker-2")
    expect(second).to_contain_text("idle")
    second.get_by_role("button", name="Drain").click()
    expect(second).to_contain_text("Takes no more jobs")
    second.get_by_role("button", name="Let it claim again").click()
    expect(second).to_contain_text("idle")
