"""Whatever its own description allows or forbids is answered by the API as that says."""

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from app.main import create_app
from core.db import Database
from core.settings import Settings
from tests.abuse.fuzzing import fuzz, make_ids
from tests.abuse.journeys import travel
from tests.api.conftest import Site, changed, listening
from tests.api.test_keys import make_key


@pytest.mark.filterwarnings("ignore")
def test_no_request_of_its_own_description_breaks_the_api(
    site: Site, api_settings: Settings, database: Database
) -> None:
    ids = make_ids(site)
    keys = make_key(database), make_key(database, project="strangers")
    alone = changed(api_settings, hf_endpoint="http://127.0.0.1:9")

    with listening(create_app(alone)) as url:
        found = fuzz(url, keys, ids, examples=10)

    assert found.cases > 800
    assert (found.server_errors, found.violations) == ([], [])


@pytest.mark.filterwarnings("ignore")
def test_two_projects_go_through_files_and_jobs_in_any_order(
    site: Site, database: Database
) -> None:
    keys = make_key(database), make_key(database, project="strangers")

    count = travel(site, keys, journeys=6, steps=20)

    assert count.requests > 150
    assert count.carried_out > 15


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_shows_one_project_to_another_is_found_out(
    site: Site, database: Database
) -> None:
    key = make_key(database)

    with pytest.raises(AssertionError):
        travel(site, (key, key), journeys=5, steps=10)


@pytest.mark.filterwarnings("ignore")
def test_a_server_that_breaks_is_found_out() -> None:
    app = FastAPI()

    @app.get("/broken", response_model=None)
    def broken(number: int) -> Response:
        return Response(status_code=500)

    @app.get("/lying", response_model=dict[str, int])
    def lying() -> Response:
        return JSONResponse(["no object"])

    with listening(app) as url:
        found = fuzz(url, ("a", "b"), {}, examples=2)

    assert found.server_errors
    assert found.violations
