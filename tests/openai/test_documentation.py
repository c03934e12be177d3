"""docs/openai.md speaks of every route and every field that there is."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from app.main import create_app
from app.schemas import (
    CheckpointObject,
    EventObject,
    FileObject,
    JobObject,
    ModelObject,
    PermissionObject,
)
from app.uploads import PartObject, UploadObject
from app.webhooks import EndpointWithSecret
from core.settings import Settings
from core.spec import JobSpec
from core.webhooks import BACKOFF_SECONDS, MAX_FAILURES

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openai.md"
ELSEWHERE = "/hf/"
VERDICTS = {"same", "extended", "different", "ours"}


@pytest.fixture(scope="module")
def sections() -> dict[str, list[list[str]]]:
    """The rows of each table, by the heading that it is under."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith(("| `", "| 4")):
            found.setdefault(heading, []).append([cell.strip() for cell in line.split("|")[1:-1]])
    return found


def _names(rows: list[list[str]]) -> list[str]:
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]


def test_every_route_is_compared(sections: dict[str, list[list[str]]], settings: Settings) -> None:
    paths = create_app(settings).openapi()["paths"]
    routes = {
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method in methods
        if not path.startswith(ELSEWHERE)
    }

    assert sorted(_names(sections["Calls"])) == sorted(routes)


def test_every_verdict_is_one_of_four_and_a_difference_has_a_reason(
    sections: dict[str, list[list[str]]],
) -> None:
    for row in (row for rows in sections.values() for row in rows):
        assert row[1] in VERDICTS, row
        if row[1] == "different":
            assert row[2], row


@pytest.mark.parametrize(
    ("heading", "models"),
    [
        ("The body of a job", [JobSpec]),
        ("Job", [JobObject]),
        ("Event", [EventObject]),
        ("Checkpoint", [CheckpointObject]),
        ("Checkpoint permission", [PermissionObject]),
        ("File", [FileObject]),
        ("Upload, part of an upload", [UploadObject, PartObject]),
        ("Model", [ModelObject]),
        ("Webhook endpoint", [EndpointWithSecret]),
    ],
)
def test_every_field_is_compared(
    sections: dict[str, list[list[str]]], heading: str, models: list[type[BaseModel]]
) -> None:
    fields = {name for model in models for name in model.model_fields}

    assert sorted(_names(sections[heading])) == sorted(fields)


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text()

    assert f"{MAX_FAILURES} failed tries" in text
    assert "tried nine times" in text
    assert len(BACKOFF_SECONDS) + 1 == 9
    assert f"about {sum(BACKOFF_SECONDS) // 3600} hours" in text
