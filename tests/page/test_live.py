"""What changes while somebody looks, or has another tab before it."""

from datetime import timedelta

from playwright.sync_api import Page, expect

from core.db import database_now
from core.queue import rescue_jobs
from tests.api.conftest import Site, metrics
from tests.factories import LEASE_SECONDS, POLICY
from tests.page.conftest import OpenPage

TABS = 8
"""More than the six connections that a browser opens to a server, over all tabs."""
SET_HIDDEN = """hidden => {
    Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
    document.dispatchEvent(new Event("visibilitychange"));
}"""
"""A browser without a window hides no tab by itself."""


def has_points(page: Page, count: int) -> None:
    expect(page.locator("[data-points]")).to_have_attribute("data-points", str(count))


def test_eight_tabs_are_open_and_a_hidden_one_catches_up(
    site: Site, url: str, open_page: OpenPage
) -> None:
    lease = site.start(suffix="tabs")
    site.record(lease, metrics(1, train_loss=2.0))
    first = open_page(url, f"/jobs/{lease.job_id}")
    has_points(first, 1)
    tabs = [first]
    while len(tabs) < TABS:
        tabs[-1].evaluate(SET_HIDDEN, True)
        tabs.append(first.context.new_page())
        tabs[-1].goto(first.url)
        has_points(tabs[-1], 1)

    site.record(lease, metrics(2, train_loss=1.0))

    has_points(tabs[-1], 2)
    has_points(first, 1)
    first.evaluate(SET_HIDDEN, False)
    has_points(first, 2)


def test_a_job_that_lost_its_worker_is_recovering(
    site: Site, url: str, open_page: OpenPage
) -> None:
    lease = site.start(suffix="lost")
    page = open_page(url, f"/jobs/{lease.job_id}")
    status = page.locator(".title [role=status]")
    expect(status).to_contain_text("Running")

    with site.database.write() as session:
        later = database_now(session) + timedelta(seconds=LEASE_SECONDS + 1)
        assert rescue_jobs(session, now=later, policy=POLICY) >= 1

    expect(status).to_contain_text("Recovering")
    expect(page.get_by_role("region", name="Attempts")).to_contain_text("lost")


def test_a_clone_is_the_same_job(site: Site, url: str, open_page: OpenPage) -> None:
    asked = {
        "training": {"eval_strategy": "steps", "eval_steps": 5},
        "validation_file": site.upload(),
        "sample_prompts": ["Hello"],
        "priority": 3,
    }
    job_id = site.submit(suffix="twin", **asked)
    page = open_page(url, f"/new?from={job_id}")
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url("**/jobs/ftjob-*")

    jobs = [
        site.client.get(f"/v1/fine_tuning/jobs/{one}").json()
        for one in (job_id, page.url.rpartition("/")[2])
    ]
    assert jobs[0]["id"] != jobs[1]["id"]
    for name in (*asked, "model", "training_file", "user_provided_suffix"):
        assert jobs[0][name] == jobs[1][name], name
