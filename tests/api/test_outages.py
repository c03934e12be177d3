"""The database goes away from a running API, and comes back."""

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from core.db import Database
from core.jobs import list_jobs
from core.migrate import upgrade
from core.settings import Settings
from tests.api.conftest import JOBS, Site, changed, problem_of, serving
from tests.servers.postgres import create_database
from tests.servers.proxy import Proxy, proxied


@pytest.fixture(scope="module")
def migrated_url(postgres_server: str) -> str:
    """A database that can be cut off from its clients: SQLite has no way to it."""
    url = create_database(postgres_server, "api_outages")
    database = Database(url)
    upgrade(database)
    database.close()
    return url


@pytest.fixture
def proxy(migrated_url: str) -> Iterator[Proxy]:
    """The way from the API to the database."""
    folder = make_url(migrated_url).query["host"]
    with proxied(f"{folder}/.s.PGSQL.5432") as proxy:
        yield proxy


@pytest.fixture
def site(
    api_settings: Settings, migrated_url: str, database: Database, proxy: Proxy
) -> Iterator[Site]:
    """The API behind the proxy; the test looks at the database without it."""
    through = make_url(migrated_url).set(
        host="127.0.0.1", port=proxy.port, query={"sslmode": "disable"}
    )
    url = through.render_as_string(hide_password=False)
    with serving(changed(api_settings, database_url=url), database) as site:
        yield site


def test_what_is_asked_meanwhile_is_to_be_asked_again(site: Site, proxy: Proxy) -> None:
    """Connections that were open before break in the middle; nothing is done twice."""
    file_id = site.upload()
    body = {"model": "local/tiny", "training_file": file_id}
    key = {"idempotency-key": "once"}

    proxy.go_away()
    answers = [
        site.client.get(JOBS),
        site.client.post(JOBS, json=body, headers=key),
        site.post_file(),
        site.client.delete(f"/v1/files/{file_id}"),
    ]
    proxy.come_back()
    again = [site.client.post(JOBS, json=body, headers=key) for _ in range(2)]

    for answer in answers:
        assert problem_of(answer, 503)["code"] == "unavailable"
        assert answer.headers["retry-after"] == "2"
    assert [answer.status_code for answer in again] == [200, 200]
    assert again[0].json()["id"] == again[1].json()["id"]
    with site.database.read() as session:
        assert len(list_jobs(session)) == 1
