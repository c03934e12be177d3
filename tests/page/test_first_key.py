"""The moment in which a server begins to want keys."""

from playwright.sync_api import expect

from tests.page.conftest import OpenPage


def test_who_makes_the_first_key_stays_in_and_is_shown_it_once(
    url: str, open_page: OpenPage
) -> None:
    page = open_page(url, "/keys")
    page.get_by_label("Name").fill("<b>mine</b>")
    page.get_by_role("button", name="Create key").click()

    text = page.get_by_role("status").locator("code").inner_text()
    expect(page.get_by_role("listitem")).to_contain_text("<b>mine</b>")
    page.reload()
    expect(page.get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_text(text)).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
