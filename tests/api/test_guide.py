"""The guide that the server serves: all pages, all links, nothing from elsewhere."""

import re
from pathlib import Path

import pytest

from app.guide import BASE, FOLDERS, Guide
from tests.api.conftest import Site, problem_of
from tests.api.test_keys import make_key

LINK = re.compile(r'(?:href|src)="([^"]*)"')
PAGES = sorted(Guide.load("v").pages)


def ids_of(page: str) -> set[str]:
    return set(re.findall(r'id="([^"]*)"', page))


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_every_page_leads_somewhere(site: Site, name: str) -> None:
    page = site.client.get(f"{BASE}/{name}").text
    ids = ids_of(page)

    for link in LINK.findall(page):
        path, _, fragment = link.partition("#")
        if path.startswith("http"):
            continue
        found = site.client.get(path) if path else None
        assert found is None or found.status_code == 200, link
        there = ids_of(found.text) if found is not None and path.startswith(BASE) else ids
        assert not fragment or fragment in there, link


def test_every_document_is_a_page() -> None:
    documents = {
        path.relative_to(FOLDERS[0]).with_suffix("").as_posix() for path in FOLDERS[0].rglob("*.md")
    }

    assert set(PAGES) == documents


def test_the_first_page_leads_to_every_other_one() -> None:
    """The contents of the guide are the links of its first page; decisions are linked elsewhere."""
    contents = Guide.load("v").pages["index"]

    assert [name for name in PAGES if f'"{BASE}/{name}"' not in contents and "/" not in name] == []


def test_pages_run_no_script_and_load_nothing_from_elsewhere(site: Site) -> None:
    response = site.client.get(BASE, follow_redirects=True)

    assert "script" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers["content-type"].startswith("text/html")


def test_the_guide_is_there_before_anybody_signs_in(site: Site) -> None:
    make_key(site.database)

    assert site.client.get(f"{BASE}/start").status_code == 200


@pytest.mark.parametrize("name", ["nothing", "../settings.py", "%2e%2e/settings.py", "start.md"])
def test_what_is_no_page_is_not_found(site: Site, name: str) -> None:
    problem_of(site.client.get(f"{BASE}/{name}"), 404)


def test_without_documents_the_guide_says_how_to_get_them(tmp_path: Path) -> None:
    guide = Guide.load("v", (tmp_path / "none",))

    assert "python -m app.vendor" in guide.pages["index"]


def test_markup_in_a_document_stays_text(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text("# A\n\n<script>x</script> [b](javascript:alert(1))\n")

    page = Guide.load("v", (tmp_path,)).pages["index"]

    assert "<script>" not in page
    assert "javascript:" not in page.replace("(javascript:alert(1))", "")
