"""The API as an attacker with a good key meets it, over SQLite: little of this gets further."""

import pytest

from core.db import Database
from core.migrate import upgrade
from tests.api.conftest import api_settings, models, site, url

__all__ = ["api_settings", "models", "site", "url"]


@pytest.fixture(scope="session")
def migrated_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of an empty database at the newest schema."""
    url = f"sqlite:///{tmp_path_factory.mktemp('abuse') / 'tuneyard.db'}"
    database = Database(url)
    upgrade(database)
    database.close()
    return url
