"""README.ja.md says what README.md says."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TWINS = ("README.md", "README.ja.md")


def parts(name: str, pattern: str) -> list[str]:
    return re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(r"^```.*?^```$", id="blocks of code"),
        pytest.param(r"\]\(((?!README)[^)]+)\)", id="links and pictures"),
        pytest.param(r"^\| [0-9][^\n]*", id="rows of numbers"),
    ],
)
def test_twins_have_the_same(pattern: str) -> None:
    english, japanese = (parts(name, pattern) for name in TWINS)

    assert english == japanese


@pytest.mark.parametrize("pattern", [r"^## ", r"^\| `", r"^\*\*"])
def test_twins_have_as_many(pattern: str) -> None:
    english, japanese = (parts(name, pattern) for name in TWINS)

    assert len(english) == len(japanese)


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("docs/**/*.md")) + [ROOT / name for name in TWINS]
)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)

    assert [link for link in links if not (path.parent / link).exists()] == []
