"""Many tabs: a browser opens six connections to a server, over all of them."""

from playwright.sync_api import Page, expect

from tests.api.conftest import Site, metrics
from tests.page.conftest import OpenPage

TABS = 8
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
