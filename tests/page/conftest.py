"""A real browser, which must find nothing to complain about."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from app.main import create_app
from app.page_files import PageFiles
from core.db import Database
from core.migrate import upgrade
from core.settings import Settings
from tests.api.conftest import Site, listening, serving
from tests.conftest import missing
from tests.page.browser import chromium, open_browser

PATIENCE_MS = 30_000

# A busy machine is slow, and not wrong.
expect.set_options(timeout=PATIENCE_MS)

EXPECTED = (
    "ERR_CONNECTION",
    "ERR_INCOMPLETE",
    "400 (Bad Request)",
    "401 (Unauthorized)",
    "404 (Not Found)",
)

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    executable = chromium()
    if executable is None:
        missing("chromium")
    if "vendor/preact.js" not in PageFiles.load().files:
        missing("the page's libraries (make install)")
    assert executable is not None
    with open_browser(executable) as browser:
        yield browser


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a server with one model, in a folder of its own."""
    home = tmp_path_factory.mktemp("look")
    model = home / "models" / "tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    url = f"sqlite:///{home / 'tuneyard.db'}"
    return Settings(TUNEYARD_HOME=home, DATABASE_URL=url, MODEL_ROOTS=(home / "models",))


@pytest.fixture(scope="module")
def site(settings: Settings) -> Iterator[Site]:
    """What a worker and other clients do to the server that the browser looks at."""
    database = Database(settings.database_url)
    upgrade(database)
    with serving(settings, database) as site:
        yield site
    database.close()


@pytest.fixture(scope="module")
def url(settings: Settings, site: Site) -> Iterator[str]:
    """Where the browser finds it."""
    with listening(create_app(settings)) as url:
        yield url


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages of a server in contexts of their own.

    None may write an error to its console, or ask another server.
    """
    errors: list[str] = []
    contexts = []

    def open_one(url: str, path: str = "/", **options: object) -> Page:
        context = browser.new_context(base_url=url, **({"locale": "en-US"} | options))
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: _note(message.type, message.text, errors))
        page.on("request", lambda request: _note_stranger(request.url, url, errors))
        page.goto(path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert errors == []


def _note(kind: str, text: str, errors: list[str]) -> None:
    # The browser itself tells of a server that is away or wants a key; no page can prevent that.
    if kind == "error" and not any(word in text for word in EXPECTED):
        errors.append(text)


def _note_stranger(asked: str, url: str, errors: list[str]) -> None:
    if not asked.startswith((url, "blob:")):
        errors.append(f"asked {asked}")
