"""Every page by itself: readable for all, in both themes, whatever the data holds."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.page_files import PageFiles
from core.db import database_now
from core.events import NewEvent
from core.failure import Failure
from core.queue import Lease, fail_attempt
from core.states import EventKind, FailureReason
from tests.api.conftest import Site, line, metrics
from tests.factories import POLICY
from tests.page.browser import violations
from tests.page.conftest import OpenPage

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "app/page/js"
HOSTILE = "<script>alert(1)</script>\x1b[31mred\x1b[0m \u202eevil\u2028 " + "x" * 1_000_000
HOSTILE_NAME = "<img src=x onerror=alert(1)>\u202egpj.jsonl"
POINTS, LINES = 10_000, 50_000
PACKED_LIMIT = 120_000
HEAP_LIMIT = 40 * 1024**2
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
    [...document.querySelectorAll("main *")]
        .filter(one => one.getBoundingClientRect().right > innerWidth)
        .map(one => one.outerHTML.slice(0, 80))"""
"""What sticks out, if the page as a whole can be scrolled sideways."""


@pytest.fixture(scope="module")
def lease(site: Site) -> Lease:
    """A running job with a curve, a log, a checkpoint, and text that means harm."""
    lease = site.start(suffix="curves", sample_prompts=["<b>Hello</b>"])
    for first in range(1, POINTS + 1, 1000):
        steps = range(first, first + 1000)
        events = [metrics(step, train_loss=5 / step, learning_rate=1e-4) for step in steps]
        site.record(lease, *events, step=steps[-1], total_steps=2 * POINTS)
    for first in range(0, LINES, 2000):
        numbers = range(first, first + 2000)
        site.record(lease, *(line(f"line {number} of the log") for number in numbers))
    site.record(lease, line(HOSTILE), line("WARNING: the needle"))
    site.publish(lease, 4, {"config.json": b"{}"})
    return lease


@pytest.fixture(scope="module")
def paths(site: Site, lease: Lease) -> list[str]:
    other = site.submit(suffix=HOSTILE[:40], training_file=site.upload(name=HOSTILE_NAME))
    failed = site.start(suffix="failed", priority=9)
    evidence = {"step": 3, "log": [HOSTILE[:200]]}
    failure = Failure(
        reason=FailureReason.INVALID_ARGUMENT, message=HOSTILE[:200], evidence=evidence
    )
    with site.database.write() as session:
        fail_attempt(session, failed, failure, now=database_now(session), policy=POLICY)
    job = f"/jobs/{lease.job_id}"
    compare = f"/compare?ids={lease.job_id},{other}"
    views = ["/", "/new", f"/new?from={other}", "/files", "/workers", "/keys", compare]
    return [*views, job, f"/jobs/{other}", f"/jobs/{failed.job_id}"]


def settle(page: Page) -> None:
    page.wait_for_load_state("load")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_breaks_a_rule_of_accessibility(
    scheme: str, url: str, paths: list[str], open_page: OpenPage
) -> None:
    page = open_page(url, color_scheme=scheme, bypass_csp=True)
    for path in paths:
        page.goto(path)
        settle(page)
        found = violations(page)
        assert found == [], f"{path}: {json.dumps(found)[:3000]}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nor_does_what_opens_on_a_page(
    scheme: str, url: str, lease: Lease, open_page: OpenPage
) -> None:
    page = open_page(url, f"/jobs/{lease.job_id}", color_scheme=scheme, bypass_csp=True)
    settle(page)
    loss = page.get_by_role("region", name="Loss", exact=True).first
    opened: list[Callable[[], None]] = [
        lambda: page.get_by_role("button", name="Cancel").click(),
        lambda: page.keyboard.press("?"),
        lambda: page.keyboard.press("Control+k"),
    ]
    for open_dialog in opened:
        open_dialog()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert violations(page) == []
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
    loss.get_by_role("button", name="Table").click()
    page.get_by_role("button", name="As a request").click()
    page.get_by_role("button", name="step 4", exact=True).click()
    assert violations(page) == []


def test_a_phone_scrolls_no_page_sideways(url: str, paths: list[str], open_page: OpenPage) -> None:
    page = open_page(url, viewport={"width": 375, "height": 700})
    for path in paths:
        page.goto(path)
        settle(page)
        assert page.evaluate(TOO_WIDE) == [], path


def test_hostile_text_is_shown_as_text(url: str, lease: Lease, open_page: OpenPage) -> None:
    page = open_page(url, f"/jobs/{lease.job_id}")
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    page.get_by_label("Search all lines").fill("<script>")
    log = page.get_by_role("log")

    expect(log.locator("mark")).to_have_text("<script>")
    expect(log).to_contain_text("more characters")
    assert "\x1b" not in log.inner_text()
    assert "\u202e" not in log.inner_text()
    assert page.locator("main script").count() == 0


def test_hostile_names_are_shown_as_text_everywhere(
    url: str, paths: list[str], open_page: OpenPage
) -> None:
    page = open_page(url)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    for path in paths:
        page.goto(path)
        settle(page)
        assert page.locator("main :is(img, script, b b)").count() == 0, path
        assert "\u202e" not in page.locator("main").inner_text(), path
    page.goto("/files")
    expect(page.locator("main")).to_contain_text("<img src=x onerror=alert(1)>")


def test_all_lines_of_a_long_log_are_searched(url: str, lease: Lease, open_page: OpenPage) -> None:
    page = open_page(url, f"/jobs/{lease.job_id}")
    box = page.get_by_label("Search all lines")

    box.fill("line 777 of")
    expect(page.get_by_role("log")).to_contain_text("line 777 of the log")
    box.fill("needle")
    expect(page.get_by_role("log")).to_contain_text("the needle")
    assert page.locator(".logs .row").count() < 200


def test_a_long_job_is_small_in_memory_and_on_the_wire(
    url: str, lease: Lease, open_page: OpenPage
) -> None:
    page = open_page(url, f"/jobs/{lease.job_id}")
    expect(page.locator("[data-points]")).to_have_attribute("data-points", str(POINTS))
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    files = PageFiles.load()
    packed = [file for name, file in files.files.items() if name != "js/strings.ja.js"]

    assert heap < HEAP_LIMIT
    assert len(files.document.packed) + sum(len(file.packed) for file in packed) < PACKED_LIMIT


def test_samples_are_shown_beside_each_other(
    site: Site, url: str, lease: Lease, open_page: OpenPage
) -> None:
    samples = [{"prompt": "<b>Hello</b>", "completion": "<i>you</i>"}]
    data = {"step": 4, "samples": samples}
    site.record(lease, NewEvent(kind=EventKind.SAMPLES, message="Samples", data=data))
    page = open_page(url, f"/jobs/{lease.job_id}")

    expect(page.get_by_role("region", name="Samples").last).to_contain_text("<i>you</i>")


def test_filters_of_the_list_are_in_its_address(
    url: str, lease: Lease, paths: list[str], open_page: OpenPage
) -> None:
    page = open_page(url)
    page.get_by_label("Status").select_option("running")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Search jobs").fill("curves")
    page.reload()

    expect(page.locator("tbody tr")).to_have_count(1)
    assert "status=running" in page.url
    assert "q=curves" in page.url


def test_the_keyboard_reaches_every_page(url: str, open_page: OpenPage) -> None:
    page = open_page(url)
    settle(page)
    for keys, path in {
        "gw": "/workers",
        "gf": "/files",
        "gk": "/keys",
        "gj": "/",
        "n": "/new",
    }.items():
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_url(f"**{path}")


def test_japanese_readers_read_japanese(url: str, open_page: OpenPage) -> None:
    page = open_page(url, locale="ja-JP")

    expect(page.get_by_role("heading", level=1)).to_have_text("ジョブ")
    assert page.evaluate("document.documentElement.lang") == "ja"


def test_every_text_has_its_japanese() -> None:
    asked = set()
    for script in SCRIPTS.glob("*.js"):
        asked |= set(re.findall(r'\bt\("([^"]+)"', script.read_text(encoding="utf-8")))
    japanese = (SCRIPTS / "strings.ja.js").read_text(encoding="utf-8")
    found = re.findall(r'^ {2}(?:"([^"]+)"|(\w+)):', japanese, re.MULTILINE)
    translated = {quoted or plain for quoted, plain in found}

    assert asked - translated == set()


def test_the_guide_lists_the_keys_as_the_page_does() -> None:
    """Of docs/page.md; which of them do what they say, other tests here try."""
    keys = re.findall(r'\["([^"]+)", "([^"]+)"\]', (SCRIPTS / "help.js").read_text("utf-8"))
    guide = (ROOT / "docs/page.md").read_text("utf-8")

    assert re.findall(r"^\| `([^`]+)` \| (.+) \|$", guide, re.MULTILINE) == keys


def test_without_its_libraries_the_page_says_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("{base}{modules}")

    document = PageFiles.load(tmp_path).document

    assert b"make install" in document.content
