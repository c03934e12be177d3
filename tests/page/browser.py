"""Debian's Chromium, by Playwright: found, or installed where we may."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
INSTALL_SECONDS = 600
END_SECONDS = 5
AXE = Path(__file__).resolve().parents[2] / "app/page/node_modules/axe-core/axe.min.js"
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
}


def chromium() -> str | None:
    """Path of a Chromium; as root on Debian a missing one is installed."""
    found = _find()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        # Of several test processes one installs, and the others wait for it.
        with (Path(tempfile.gettempdir()) / "tuneyard-chromium.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = _find() or _install()
    return found


def _find() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


def _install() -> str | None:
    for command in (["update", "-qq"], ["install", "-y", "-qq", "chromium"]):
        subprocess.run(
            ["apt-get", *command],
            check=False,
            timeout=INSTALL_SECONDS,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
        )
    return _find()


@contextmanager
def open_browser(executable: str) -> Iterator[Browser]:
    """A headless browser, closed afterwards."""
    before = set(psutil.Process().children(recursive=True))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        helpers = set(psutil.Process().children(recursive=True)) - before
        browser.close()
    # On a busy machine a helper of Chromium now and then does not notice that it is alone.
    _, left = psutil.wait_procs(helpers, timeout=END_SECONDS)
    for helper in left:
        if "chromium" in helper.name():
            helper.kill()


def violations(page: Page) -> list[Any]:
    """What axe-core, which npm installed beside the page's libraries, says of a page as it is now.

    Its script is put in from outside, which the page's own policy would not allow: open the page
    with `bypass_csp`.
    """
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[Any] = page.evaluate(
        "async rules => (await axe.run(document, rules)).violations", RULES
    )
    return found
