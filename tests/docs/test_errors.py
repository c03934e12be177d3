"""docs/errors.md tells every code, in the words of the code."""

import re
from pathlib import Path

from app.problems import RETRIED, STATUS
from core.errors import TuneyardError
from core.states import FailureReason

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")


def kinds(branch: type[TuneyardError] = TuneyardError) -> list[type[TuneyardError]]:
    return [branch, *(kind for below in branch.__subclasses__() for kind in kinds(below))]


def test_each_failure_of_a_job_has_its_section() -> None:
    """A new reason without a section, or another word on what to do, fails here."""
    sections = re.findall(r"^### ([a-z_]+)\n\n(.*?)(?=\n#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    said = {code: " ".join(text.split()) for code, text in sections}

    assert list(said) == [reason.code for reason in FailureReason]
    for reason in FailureReason:
        again = "Tried again by itself" if reason.is_retryable else "Not tried again by itself"
        assert said[reason.code].startswith(f"{reason.text} *{again}.* {reason.suggestion}")


def test_each_refusal_of_a_request_has_its_row() -> None:
    """Code, status and meaning are those of the server."""
    expected = {}
    for kind in kinds():
        status = next((STATUS[base] for base in kind.__mro__ if base in STATUS), None)
        if status is not None:
            again = "yes" if status in RETRIED else ""
            expected[kind.code] = (str(status), (kind.__doc__ or "").strip(), again)
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d+) \| (.+?) \| ?(yes)? ?\|$", PAGE, re.MULTILINE)

    assert {code: rest for code, *rest in rows} == {c: list(r) for c, r in expected.items()}
