"""Settings come from the environment once, and a bad one says what is wrong with which."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.errors import SettingsError
from core.settings import Settings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)


def test_defaults_put_everything_into_the_home(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))

    settings = Settings.from_environment()

    assert settings.database_url == f"sqlite:///{tmp_path}/tuneyard.db"
    assert settings.storage_url == f"file://{tmp_path}/storage"
    assert settings.redis_url is None
    assert settings.host == "127.0.0.1"


def test_the_home_of_the_user_is_not_ours(monkeypatch, tmp_path) -> None:
    """HOME is not TUNEYARD_HOME."""
    monkeypatch.setenv("HOME", str(tmp_path))

    assert Settings.from_environment().home == tmp_path / ".tuneyard"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TUNEYARD_PORT", "eighty"),
        ("TUNEYARD_PORT", "70000"),
        ("LEASE_SECONDS", "-1"),
        ("LEASE_SECONDS", "nan"),
        ("POLL_SECONDS", "0"),
        ("WORKER_SLOTS", "0"),
        ("DATABASE_URL", "mysql://host/name"),
        ("REDIS_URL", "amqp://host"),
        ("MODEL_ROOTS", "/there/is/no/such/folder"),
        ("TUNEYARD_DEVICE", "tpu"),
        ("TUNEYARD_API_KEY", "short"),
    ],
)
def test_a_bad_value_names_its_variable_and_what_it_accepts(monkeypatch, name, value) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()

    field = next(f for f in Settings.model_fields.values() if f.validation_alias == name)
    assert caught.value.message.startswith(f"{name}: ")
    assert str(field.description) in caught.value.message


def test_every_setting_is_documented() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name


def test_settings_cannot_be_changed(settings: Settings) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1


def test_plain_postgresql_urls_use_the_installed_driver(monkeypatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user@host/name")

    assert Settings.from_environment().database_url == "postgresql+psycopg://user@host/name"


def test_several_model_roots(monkeypatch, tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setenv("MODEL_ROOTS", f"{tmp_path / 'a'}:{tmp_path / 'b'}")

    assert Settings.from_environment().model_roots == (tmp_path / "a", tmp_path / "b")


def test_the_documentation_lists_every_setting_as_it_is() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()

    for field in Settings.model_fields.values():
        row = next(line for line in text.splitlines() if f"`{field.validation_alias}`" in line)
        assert str(field.description) in row
        if isinstance(field.default, int | float) and field.default is not None:
            assert f"`{field.default}`" in row
