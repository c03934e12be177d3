"""Errors have one form on every path; keys and hosts decide who comes in."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.main import create_app
from core.db import Database
from core.settings import Settings
from tests.api.conftest import JOBS, LOCAL, ROWS, Site, changed, jsonl, problem_of, serving

KEY = "a-key-of-some-length"
FORBIDDEN_MODULES = ("torch", "transformers", "trl", "datasets", "peft", "worker")


@pytest.fixture
def locked(api_settings: Settings, database: Database) -> Iterator[Site]:
    """A server that wants a key."""
    with serving(changed(api_settings, api_key=KEY), database) as site:
        yield site


@pytest.mark.parametrize("path", ["/nothing", "/v1", "/v1/nothing", "/v1/fine_tuning", "/v2/files"])
def test_an_unknown_path_is_answered_in_the_envelope(site: Site, path: str) -> None:
    error = problem_of(site.client.get(path), 404)

    assert error["type"] == "invalid_request_error"
    assert error["code"] == "not_found"
    assert path in error["message"]


@pytest.mark.parametrize("path", ["/v1/{x}", "/v1/{method.__class__}", "/v1/%7B%7D", "/v1/%s"])
def test_a_path_is_never_taken_for_a_format(site: Site, path: str) -> None:
    problem_of(site.client.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/files", "GET, POST"),
        ("PATCH", JOBS, "GET, POST"),
        ("PUT", "/v1/files/file-x", "DELETE, GET"),
        ("POST", f"{JOBS}/x", "DELETE, GET"),
        ("GET", f"{JOBS}/x/cancel", "POST"),
        ("POST", "/v1/files/file-x/content", "GET, HEAD"),
    ],
)
def test_an_impossible_method_is_told_all_that_are_possible(
    site: Site, method: str, path: str, allowed: str
) -> None:
    response = site.client.request(method, path)

    assert problem_of(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == allowed


def test_a_too_large_body_is_answered_in_the_envelope(site: Site) -> None:
    response = site.client.post(JOBS, content=b" " * 2_000_000)

    assert problem_of(response, 413)["code"] == "too_large"


def test_a_too_large_body_of_unknown_length_is_answered_in_the_envelope(site: Site) -> None:
    response = site.client.post(JOBS, content=iter([b" " * 1000] * 2000))

    assert problem_of(response, 413)["code"] == "too_large"


def test_a_mistake_of_ours_is_answered_in_the_envelope(api_settings: Settings) -> None:
    app = create_app(api_settings)
    app.add_api_route("/mistake", lambda: 1 / 0)

    with TestClient(app, base_url=LOCAL, raise_server_exceptions=False) as client:
        error = problem_of(client.get("/mistake"), 500)

    assert error["type"] == "server_error"
    assert "ZeroDivision" not in error["message"]


def test_a_database_that_is_away_is_answered_in_the_envelope(
    api_settings: Settings, database: Database
) -> None:
    away = changed(api_settings, database_url="postgresql+psycopg://a:b@127.0.0.1:1/c")
    with serving(away, database) as site:
        responses = [site.client.get(path) for path in ("/readyz", "/v1/files", f"{JOBS}/x/events")]
        alive = site.client.get("/healthz")

    for response in responses:
        assert problem_of(response, 503)["code"] == "unavailable"
        assert response.headers["retry-after"] == "2"
    assert alive.json() == {"status": "ok"}


def test_a_ready_server_says_so(site: Site) -> None:
    assert site.client.get("/readyz").json() == {"status": "ready"}


def test_every_answer_has_a_request_id_of_its_own(site: Site) -> None:
    ids = [site.client.get("/healthz").headers["x-request-id"] for _ in range(3)]

    assert len(set(ids)) == 3


@pytest.mark.parametrize("path", ["/healthz", "/v1/nothing", "/v1/files"])
def test_a_clients_own_request_id_comes_back(site: Site, path: str) -> None:
    response = site.client.get(path, headers={"x-request-id": "my-id_1.a"})

    assert response.headers["x-request-id"] == "my-id_1.a"


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, "<script>", "a\tb"])
def test_a_request_id_that_is_not_plain_is_replaced(site: Site, given: str) -> None:
    response = site.client.get("/healthz", headers={"x-request-id": given})

    assert response.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", f"Basic {KEY}", KEY, "Bearer wrong", f"Bearer {KEY}x", "Bearer \xe9"],
)
def test_without_the_key_nobody_comes_in(locked: Site, authorization: str) -> None:
    headers = {"authorization": authorization.encode("latin-1")}

    for path in ("/v1/files", JOBS, "/v1/nothing", "/docs", "/openapi.json"):
        response = locked.client.get(path, headers=headers)
        error = problem_of(response, 401)
        assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
        assert KEY not in response.text
        assert response.headers["www-authenticate"] == "Bearer"


def test_without_the_key_a_large_body_is_not_what_is_wrong(locked: Site) -> None:
    response = locked.client.post("/v1/files", files={"file": jsonl({"text": "a" * 2_000_000})})

    problem_of(response, 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_key_everything_is_open_from_anywhere(locked: Site, scheme: str) -> None:
    headers = {"authorization": f"{scheme} {KEY}", "host": "gpu.example"}

    assert locked.client.get("/v1/files", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_key(locked: Site, path: str) -> None:
    assert locked.client.get(path).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil", "", "::2"],
)
def test_without_a_key_other_names_are_not_served(site: Site, host: str) -> None:
    error = problem_of(site.client.get("/v1/files", headers={"host": host}), 403)

    assert error["type"] == "permission_error"
    assert "TUNEYARD_API_KEY" in error["message"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:8080", "[::1]:8080", "LOCALHOST", "[::1]"]
)
def test_without_a_key_this_machine_is_served(site: Site, host: str) -> None:
    assert site.client.get("/v1/files", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via"],
)
def test_without_a_key_nobody_comes_in_through_a_proxy(site: Site, header: str) -> None:
    """A proxy of this machine hands on a stranger's Host, which may say 127.0.0.1."""
    headers = {header: "", "host": "127.0.0.1"}

    error = problem_of(site.client.get("/v1/files", headers=headers), 403)

    assert header.lower() in error["message"]
    assert "tuneyard keys create" in error["message"]
    assert site.client.get("/healthz", headers=headers).status_code == 200


def test_with_the_key_a_proxy_may_say_who_asks(locked: Site) -> None:
    headers = {"authorization": f"Bearer {KEY}", "x-forwarded-for": "192.0.2.1", "via": "1.1 a"}

    assert locked.client.get("/v1/files", headers=headers).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil:80", ""])
def test_without_a_key_pages_of_other_sites_are_not_served(site: Site, origin: str) -> None:
    """A browser posts a form of any page to this machine, and says in Origin whose page it is."""
    body = {"model": "local/tiny", "training_file": site.upload()}

    response = site.client.post(JOBS, json=body, headers={"origin": origin})

    assert problem_of(response, 403)["type"] == "permission_error"
    assert site.client.get(JOBS).json()["data"] == []


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:80"])
def test_without_a_key_pages_of_this_machine_are_served(site: Site, origin: str) -> None:
    assert site.client.get("/v1/files", headers={"origin": origin}).status_code == 200


def test_with_the_key_pages_of_other_sites_are_served(locked: Site) -> None:
    headers = {"authorization": f"Bearer {KEY}", "origin": "https://dashboard.example"}

    assert locked.client.get("/v1/files", headers=headers).status_code == 200


def test_a_path_cannot_write_lines_of_its_own_into_the_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    site.client.get("/v1/nothing%0AINFO%20all%20is%20well")

    assert [record.name for record in caplog.records if "\n" in record.getMessage()] == []


@pytest.mark.parametrize("path", ["/v1/files", JOBS])
def test_a_list_after_nothing_names_its_parameter(site: Site, path: str) -> None:
    response = site.client.get(path, params={"after": "nothing"})

    assert problem_of(response, 404)["param"] == "after"


def test_what_was_refused_left_nothing(site: Site) -> None:
    files = {"file": ("rows.jsonl", ROWS)}
    headers = {"host": "evil.example"}

    site.client.post("/v1/files", data={"purpose": "fine-tune"}, files=files, headers=headers)

    assert site.stored() == []


def test_the_schema_names_every_argument(site: Site) -> None:
    schema = site.client.get("/v1/fine_tuning/schema").json()

    assert set(schema) == {"training", "peft", "quantization"}
    assert "gradient_accumulation_steps" in str(schema["training"])


def test_the_server_describes_itself(site: Site) -> None:
    paths = site.client.get("/openapi.json").json()["paths"]

    assert {"/v1/files", JOBS, f"{JOBS}/{{job_id}}/events"} <= paths.keys()


def test_the_server_never_loads_what_trains() -> None:
    code = f"import sys, app.main; print([m for m in {FORBIDDEN_MODULES} if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "[]"
