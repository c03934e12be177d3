"""Keys as a person meets them: who comes in, and what others see."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from app.main import create_app
from core.db import database_now
from core.keys import Scope, create_key, create_project
from core.settings import Settings
from tests.api.conftest import Site, listening
from tests.page.browser import violations
from tests.page.conftest import OpenPage

KEPT = "JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie + location.href"


@pytest.fixture
def guarded_url(settings: Settings, site: Site) -> Iterator[str]:
    """A server over the same database that knows nobody without a key."""
    guarded = settings.model_copy(update={"api_key": "a-key-of-some-length"})
    with listening(create_app(guarded)) as url:
        yield url


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def project_key(site: Site, project: str) -> str:
    with site.database.write() as session:
        now = database_now(session)
        create_project(session, project, now=now)
        return create_key(session, "k", scope=Scope.WRITE, now=now, lives=None, project_id=project)[
            1
        ]


def test_a_wrong_key_is_refused_and_a_right_one_is_not_kept_in_reach(
    guarded_url: str, open_page: OpenPage
) -> None:
    page = open_page(guarded_url)
    sign_in(page, "wrong")
    expect(page.get_by_role("alert")).to_be_visible()
    sign_in(page, "a-key-of-some-length")

    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    assert page.evaluate(KEPT) == f"{{}}{guarded_url}/"
    page.reload()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sign_in_breaks_no_rule_of_accessibility(
    scheme: str, guarded_url: str, open_page: OpenPage
) -> None:
    page = open_page(guarded_url, color_scheme=scheme, bypass_csp=True)
    expect(page.get_by_label("API key")).to_be_visible()

    assert violations(page) == []


def test_a_job_of_another_project_is_not_there(
    site: Site, guarded_url: str, open_page: OpenPage
) -> None:
    job_id = site.submit(suffix="not-yours")
    page = open_page(guarded_url)
    sign_in(page, project_key(site, "other"))

    expect(page.get_by_text("No jobs yet")).to_be_visible()
    page.goto(f"/jobs/{job_id}")
    expect(page.get_by_role("alert")).to_contain_text(job_id)
    expect(page.get_by_text("not-yours")).to_have_count(0)
