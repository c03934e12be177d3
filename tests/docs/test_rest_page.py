"""docs/rest.md describes the API as it is."""

from app.main import create_app
from app.reference import PAGE, page
from core.settings import Settings


def test_page_is_what_the_api_says_of_itself() -> None:
    """After a change of a route: `python -m app.reference`."""
    assert PAGE.read_text(encoding="utf-8") == page(create_app(Settings()).openapi())
