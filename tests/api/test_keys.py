"""Keys, projects, and what one project sees of another: nothing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from httpx import Response
from starlette.testclient import TestClient

from core.access import ApiKey
from core.db import DEFAULT_PROJECT, Database, database_now
from core.keys import Scope, create_key, create_project, find_key
from core.settings import Settings
from tests.api.conftest import JOBS, LOCAL, Site, problem_of, serving

METHODS = ("get", "post", "delete", "put", "patch", "head")
EVERYBODYS = ("/v1/webhook_event_types", "/v1/workers", "/v1/fine_tuning/schema")


def make_key(
    database: Database,
    *,
    scope: Scope = Scope.ADMIN,
    project: str = DEFAULT_PROJECT,
    lives: timedelta | None = None,
) -> str:
    with database.write() as session:
        now = database_now(session)
        if project != DEFAULT_PROJECT:
            create_project(session, project, now=now)
        return create_key(session, "test", scope=scope, now=now, lives=lives, project_id=project)[1]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_with_the_first_key_nobody_comes_in_without_one(site: Site, database: Database) -> None:
    assert site.client.get("/v1/files").status_code == 200

    key = make_key(database)

    problem_of(site.client.get("/v1/files"), 401)
    problem_of(site.client.get("/v1/files", headers=bearer("ty-wrong")), 401)
    assert site.client.get("/v1/files", headers=bearer(key)).status_code == 200


def test_a_key_is_shown_once_and_kept_as_a_hash(site: Site, database: Database) -> None:
    made = site.client.post("/v1/keys", json={"name": "laptop", "scope": "read"}).json()
    admin = make_key(database)

    listed = site.client.get("/v1/keys", headers=bearer(admin))

    assert made["key"].startswith("ty-")
    assert made["key"] not in listed.text
    with database.read() as session:
        row = session.get_one(ApiKey, made["id"])
        assert made["key"] not in vars(row).values()
        assert find_key(session, made["key"], now=database_now(session)) is row


def test_a_revoked_key_is_not_known_any_more(site: Site, database: Database) -> None:
    admin = make_key(database)
    made = site.client.post("/v1/keys", json={"name": "old"}, headers=bearer(admin)).json()
    assert site.client.get("/v1/files", headers=bearer(made["key"])).status_code == 200

    site.client.delete(f"/v1/keys/{made['id']}", headers=bearer(admin))

    problem_of(site.client.get("/v1/files", headers=bearer(made["key"])), 401)


def test_an_expired_key_is_not_known_any_more(site: Site, database: Database) -> None:
    key = make_key(database, lives=timedelta(seconds=-1))

    problem_of(site.client.get("/v1/files", headers=bearer(key)), 401)


@pytest.mark.parametrize(
    ("scope", "method", "path", "status"),
    [
        ("read", "GET", "/v1/files", 200),
        ("read", "POST", JOBS, 403),
        ("read", "DELETE", "/v1/files/file-1", 403),
        ("read", "POST", "/v1/fine_tuning/plan", 400),
        ("read", "GET", "/v1/keys", 403),
        ("write", "POST", JOBS, 400),
        ("write", "GET", "/v1/audit", 403),
        ("write", "POST", "/v1/projects", 403),
        ("admin", "GET", "/v1/audit", 200),
        ("write", "POST", "/v1/workers/w/drain", 403),
        ("write", "POST", "/v1/workers/w/undrain", 403),
        ("admin", "POST", "/v1/workers/w/drain", 404),
        ("admin", "GET", "/v1/keys", 200),
    ],
)
def test_a_key_may_do_what_its_scope_says(
    site: Site, database: Database, scope: str, method: str, path: str, status: int
) -> None:
    key = make_key(database, scope=Scope(scope))

    answer = site.client.request(method, path, headers=bearer(key))

    assert answer.status_code == status, answer.text
    if status == 403:
        assert problem_of(answer, 403)["code"] == "insufficient_scope"


def test_an_administrator_of_a_project_has_no_say_in_others(site: Site, database: Database) -> None:
    other = make_key(database, project="other")

    for method, path, body in (
        ("POST", "/v1/keys", {"name": "thief", "project": DEFAULT_PROJECT}),
        ("POST", "/v1/projects", {"id": "mine"}),
        ("GET", "/v1/projects", None),
        ("GET", "/v1/audit?all_projects=true", None),
        ("POST", "/v1/workers/w/drain", None),
        ("POST", "/v1/workers/w/undrain", None),
    ):
        problem_of(site.client.request(method, path, json=body, headers=bearer(other)), 403)


def test_the_audit_log_says_who_changed_what(site: Site, database: Database) -> None:
    admin = make_key(database)
    site.client.headers.update(bearer(admin))
    file_id = site.upload()
    job_id = site.submit(training_file=file_id)
    site.client.post(f"{JOBS}/{job_id}/cancel")
    site.client.get(f"{JOBS}/{job_id}")
    site.client.post(f"{JOBS}/ftjob-nothing/cancel")

    entries = site.client.get("/v1/audit").json()["data"]
    mine = site.client.get("/v1/keys").json()["data"][0]["id"]

    assert [(entry["action"], entry["targets"]) for entry in entries] == [
        (f"POST {JOBS}/{job_id}/cancel", []),
        (f"POST {JOBS}", [job_id]),
        ("POST /v1/files", [file_id]),
    ]
    assert {entry["key_id"] for entry in entries} == {mine}


def test_the_page_signs_in_with_a_cookie(site: Site, database: Database) -> None:
    key = make_key(database, scope=Scope.WRITE)
    problem_of(site.client.post("/session", json={"key": "ty-wrong"}), 401)

    answer = site.client.post("/session", json={"key": key})

    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert key not in cookie
    assert site.client.get("/v1/files").status_code == 200
    foreign = {"origin": "https://elsewhere.example"}
    problem_of(site.client.post(JOBS, json={}, headers=foreign), 403)
    site.client.delete("/session")
    problem_of(site.client.get("/v1/files"), 401)


def test_a_session_ends_with_its_key(site: Site, database: Database) -> None:
    admin = make_key(database)
    site.client.post("/session", json={"key": admin})
    [listed] = site.client.get("/v1/keys").json()["data"]

    site.client.delete(f"/v1/keys/{listed['id']}")

    problem_of(site.client.get("/v1/files"), 401)


@dataclass
class Owner:
    """A project that has one of everything, and a stranger."""

    site: Site
    ids: dict[str, str]
    key: str
    stranger: str


@pytest.fixture
def owner(api_settings: Settings, database: Database) -> Iterator[Owner]:
    key = make_key(database)
    stranger = make_key(database, project="strangers")
    with serving(api_settings, database, **bearer(key)) as site:
        lease = site.start()
        site.publish(lease, 4, {"config.json": b"{}"})
        site.succeed(lease)
        post = site.client.post
        upload = {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": 9}
        upload |= {"mime_type": "application/jsonl"}
        hook = {"name": "mine", "url": "https://example.com/hook"}
        hook |= {"event_types": ["fine_tuning.job.succeeded"]}
        checkpoint = f"jobs/{lease.job_id}.step-4"
        permissions = f"/v1/fine_tuning/checkpoints/{checkpoint}/permissions"
        ids = {
            "job_id": lease.job_id,
            "step": "4",
            "path": "config.json",
            "file_id": site.upload(),
            "upload_id": post("/v1/uploads", json={**upload, "mime_type": "text/jsonl"}).json()[
                "id"
            ],
            "endpoint_id": post("/v1/webhook_endpoints", json=hook).json()["id"],
            "permission_id": post(permissions, json={"project_ids": ["friends"]}).json()["data"][0][
                "id"
            ],
            "checkpoint": checkpoint,
            "model": checkpoint,
            "key_id": site.client.get("/v1/keys").json()["data"][0]["id"],
            "name": f"jobs/{lease.job_id}",
            "kind": "models",
            "revision": "step-4",
        }
        yield Owner(site, ids, key, stranger)


def routes(client: TestClient) -> list[tuple[str, str, list[str]]]:
    """Every operation whose path names a thing."""
    found = []
    for path, item in client.get("/openapi.json").json()["paths"].items():
        names = re.findall(r"\{(\w+)(?::\w+)?\}", path)
        # Workers are of no project: everybody may look at them.
        if set(names) - {"kind"} and names != ["worker_id"]:
            found += [(method, path, names) for method in item if method in METHODS]
    return found


def ask(owner: Owner, method: str, path: str, ids: dict[str, str], key: str) -> Response:
    url = re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: ids[found[1]], path)
    body: Any = {"json": {}} if method in ("post", "put", "patch") else {}
    if path.endswith("/permissions") and method == "post":
        body = {"json": {"project_ids": ["strangers"]}}
    if path.endswith("/complete"):
        body = {"json": {"part_ids": ["part_1"]}}
    if path.endswith("/parts"):
        body = {"files": {"data": b"12345"}}
    if path.endswith("/test"):
        body = {"json": {"event_type": "fine_tuning.job.succeeded"}}
    if path.endswith("/paths-info/{revision}"):
        body = {"json": {"paths": ["config.json"]}}
    return owner.site.client.request(method.upper(), url, headers=bearer(key), **body)


def random_ids(ids: dict[str, str]) -> dict[str, str]:
    """Names like these of things that do not exist."""
    kept = {name: ids[name] for name in ("step", "path", "kind", "revision")}
    other = {
        name: re.sub(r"[0-9a-f]{24}", "0" * 24, value)
        for name, value in ids.items()
        if name not in kept
    }
    return kept | other


def said(answer: Response, ids: dict[str, str]) -> tuple[int, str]:
    """An answer without the names that were asked for."""
    text = answer.text
    for value in sorted(ids.values(), key=len, reverse=True):
        if len(value) > 8:
            text = text.replace(value, "?")
    return answer.status_code, text


def test_another_project_is_answered_as_if_nothing_were_there(owner: Owner) -> None:
    unknown = random_ids(owner.ids)
    asked = 0
    for method, path, _names in routes(owner.site.client):
        foreign = ask(owner, method, path, owner.ids, owner.stranger)
        missing = ask(owner, method, path, unknown, owner.stranger)

        assert foreign.status_code == 404, (method, path, foreign.status_code, foreign.text)
        assert said(foreign, owner.ids) == said(missing, unknown), (method, path)
        asked += 1
    assert asked > 30


def test_the_owner_is_answered(owner: Owner) -> None:
    for method, path, _names in routes(owner.site.client):
        if method == "get" and "/tree/{revision}/{path}" not in path and "datasets" not in path:
            answer = ask(owner, method, path, owner.ids, owner.key)
            assert answer.status_code < 400, (path, answer.text)


def test_lists_of_a_stranger_are_empty(owner: Owner) -> None:
    paths = owner.site.client.get("/openapi.json").json()["paths"]
    lists = [path for path, item in paths.items() if "get" in item and "{" not in path]
    for path in lists:
        answer = owner.site.client.get(path, headers=bearer(owner.stranger))
        for value in owner.ids.values():
            assert len(value) < 9 or value not in answer.text, path


def test_a_job_of_a_stranger_cannot_use_what_is_not_its_own(owner: Owner) -> None:
    theirs = {"model": "local/tiny", "training_file": owner.ids["file_id"]}
    answer = owner.site.client.post(JOBS, json=theirs, headers=bearer(owner.stranger))
    assert problem_of(answer, 404)["param"] == "training_file"

    own = owner.site.client.post(
        "/v1/files",
        data={"purpose": "fine-tune"},
        files={"file": ("a.jsonl", b'{"text": "a"}\n')},
        headers=bearer(owner.stranger),
    ).json()["id"]
    body = {"model": owner.ids["model"], "training_file": own}
    answer = owner.site.client.post(JOBS, json=body, headers=bearer(owner.stranger))
    assert problem_of(answer, 404)["param"] == "model"


def test_another_hosts_name_is_refused_without_keys(
    api_settings: Settings, database: Database
) -> None:
    with serving(api_settings, database) as site:
        rebound = site.client.get(f"{LOCAL}/v1/files", headers={"host": "evil.example"})
        problem_of(rebound, 403)


def test_a_permitted_project_trains_on_the_checkpoint_until_that_is_taken_back(
    owner: Owner,
) -> None:
    post, headers = owner.site.client.post, bearer(owner.stranger)
    checkpoint = owner.ids["checkpoint"]
    permissions = f"/v1/fine_tuning/checkpoints/{checkpoint}/permissions"
    rows = {"file": ("a.jsonl", b'{"text": "a"}\n')}
    data = {"purpose": "fine-tune"}
    file_id = post("/v1/files", data=data, files=rows, headers=headers).json()["id"]
    body = {"model": checkpoint, "training_file": file_id}
    model = f"/hf/api/models/{checkpoint}"

    problem_of(post(JOBS, json=body, headers=headers), 404)
    created = post(permissions, json={"project_ids": ["strangers"]}).json()["data"]
    job = post(JOBS, json=body, headers=headers)
    assert (job.status_code, job.json()["model"]) == (200, checkpoint), job.text
    assert owner.site.client.get(model, headers=headers).status_code == 200
    problem_of(owner.site.client.get(permissions, headers=headers), 404)
    problem_of(owner.site.client.get(f"{JOBS}/{owner.ids['job_id']}", headers=headers), 404)

    owner.site.client.delete(f"{permissions}/{created[0]['id']}")
    problem_of(post(JOBS, json=body, headers=headers), 404)
    problem_of(owner.site.client.get(model, headers=headers), 404)
