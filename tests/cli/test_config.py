"""Which server a command speaks to, and which key it sends there."""

import stat
from pathlib import Path

import pytest

from cli.completion import complete_jobs, refresh
from cli.config import DEFAULT_URL, config_file, connection, write_config
from cli.errors import UserError
from cli.mending import mend

THERE = "https://there.example"
VARIABLES = ("TUNEYARD_URL", "TUNEYARD_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that says nothing, and folders of the test's own."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))


@pytest.mark.parametrize(
    ("kept", "environment", "url", "key"),
    [
        ({}, {}, DEFAULT_URL, None),
        ({}, {"TUNEYARD_API_KEY": "k"}, DEFAULT_URL, "k"),
        ({"url": THERE, "key": "kept"}, {}, THERE, "kept"),
        ({"url": THERE, "key": "kept"}, {"TUNEYARD_API_KEY": "k"}, THERE, "k"),
        ({"url": THERE, "key": "kept"}, {"TUNEYARD_URL": f"{THERE}/"}, THERE, "kept"),
        # A key reaches no other server than its own.
        ({"url": THERE, "key": "kept"}, {"TUNEYARD_URL": "http://other"}, "http://other", None),
        ({}, {"OPENAI_API_KEY": "sk"}, DEFAULT_URL, None),
        ({}, {"OPENAI_API_KEY": "sk", "TUNEYARD_URL": THERE}, THERE, None),
        ({}, {"OPENAI_BASE_URL": f"{THERE}/v1"}, DEFAULT_URL, None),
        ({}, {"OPENAI_BASE_URL": f"{THERE}/v1", "OPENAI_API_KEY": "sk"}, THERE, "sk"),
        (
            {"url": "http://mine"},
            {"OPENAI_BASE_URL": f"{THERE}/v1", "OPENAI_API_KEY": "sk"},
            "http://mine",
            None,
        ),
    ],
)
def test_a_key_goes_to_the_server_that_it_is_for(
    monkeypatch: pytest.MonkeyPatch,
    kept: dict[str, str],
    environment: dict[str, str],
    url: str,
    key: str | None,
) -> None:
    if kept:
        write_config(kept)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    found = connection()

    assert (found.url, found.key) == (url, key)


def test_the_config_is_for_its_user_alone() -> None:
    write_config({"url": THERE, "key": "secret"})
    config_file().chmod(0o644)

    assert list(mend()) == [f"{config_file()} is for you alone now"]
    assert stat.S_IMODE(config_file().stat().st_mode) == 0o600
    write_config({"url": THERE})
    assert stat.S_IMODE(config_file().stat().st_mode) == 0o600
    assert [path.name for path in config_file().parent.iterdir()] == ["config.json"]


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_config_that_is_broken_is_named(text: str) -> None:
    config_file().parent.mkdir(parents=True)
    config_file().write_text(text)

    with pytest.raises(UserError, match=r"config\.json"):
        connection()


def test_names_are_completed_without_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute later they are still offered, and asked for anew by another process."""
    started: list[object] = []
    monkeypatch.setattr("subprocess.Popen", lambda *given, **_: started.append(given))
    assert complete_jobs("f") == []
    assert len(started) == 1

    refresh(_answers, DEFAULT_URL)
    fresh = complete_jobs("")
    monkeypatch.setattr("cli.completion.FRESH_SECONDS", 0)
    stale = complete_jobs("f")

    assert fresh == ["@last", "faq", "ftjob-1", "ftjob-2"]
    assert stale == ["faq", "ftjob-1", "ftjob-2"]
    assert len(started) == 2


def _answers(path: str, **_: object) -> dict[str, list[dict[str, str | None]]]:
    if path.endswith("/jobs"):
        jobs: list[dict[str, str | None]] = [
            {"id": "ftjob-1", "user_provided_suffix": "faq"},
            {"id": "ftjob-2", "user_provided_suffix": None},
        ]
        return {"data": jobs}
    return {"data": [{"id": "other"}]}
