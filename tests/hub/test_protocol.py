"""The Hub's protocol, byte by byte: what clients send and what they read."""

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from httpx import Response

from core.checkpoints import mark_corrupt
from core.db import database_now
from core.settings import Settings
from tests.api.conftest import NO_JOB, ROWS, Site, changed, problem_of, serving
from tests.hub.conftest import STATE, WEIGHTS, Trained

KEY = "key-for-tests-0123456789"
NO_COMMIT = "0" * 40


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _api(trained: Trained, rest: str = "", **options: Any) -> Response:
    return trained.site.client.get(f"/hf/api/models/{trained.name}{rest}", **options)


def _resolve(
    trained: Trained, revision: str, path: str, method: str = "GET", **more: Any
) -> Response:
    url = f"/hf/{trained.name}/resolve/{revision}/{path}"
    return trained.site.client.request(method, url, follow_redirects=False, **more)


def _hub_error(response: Response, code: str) -> None:
    problem_of(response, 404)
    assert response.headers["x-error-code"] == code


def test_a_repository_is_its_newest_checkpoint(trained: Trained) -> None:
    found = _api(trained).json()

    assert found["id"] == found["modelId"] == trained.name
    assert found["sha"] == trained.commits[4]
    assert [item["rfilename"] for item in found["siblings"]] == sorted(WEIGHTS)
    assert found["tags"] == ["base_model:local/tiny"]
    for name in ("createdAt", "lastModified"):
        datetime.strptime(found[name], "%Y-%m-%dT%H:%M:%S.%f%z")


@pytest.mark.parametrize("revision", ["main", "step-4", "commit"])
def test_a_revision_is_a_branch_a_tag_or_a_commit(trained: Trained, revision: str) -> None:
    wanted = trained.commits[4] if revision == "commit" else revision

    assert _api(trained, f"/revision/{wanted}").json()["sha"] == trained.commits[4]


def test_each_checkpoint_is_a_commit_of_its_own(trained: Trained) -> None:
    assert _api(trained, "/revision/step-2").json()["sha"] == trained.commits[2]
    assert len(set(trained.commits.values())) == 2
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in trained.commits.values())


def test_a_checkpoint_is_a_repository_too(trained: Trained) -> None:
    found = trained.site.client.get(f"/hf/api/models/{trained.name}.step-2").json()

    assert (found["id"], found["sha"]) == (f"{trained.name}.step-2", trained.commits[2])


def test_what_only_a_resume_needs_is_not_there(trained: Trained) -> None:
    for path in STATE:
        _hub_error(_resolve(trained, trained.commits[4], path), "EntryNotFound")


def test_a_tree_tells_hashes_of_the_manifest(trained: Trained) -> None:
    tree = _api(trained, "/tree/main", params={"recursive": "true", "expand": "false"}).json()

    files = {item["path"]: item for item in tree if item["type"] == "file"}
    folders = [item["path"] for item in tree if item["type"] == "directory"]
    assert folders == ["sub", "sub/folder"]
    assert files.keys() == WEIGHTS.keys()
    config = files["config.json"]
    assert config["size"] == len(WEIGHTS["config.json"])
    assert config["lfs"]["oid"] == _sha256(WEIGHTS["config.json"])
    assert config["lfs"]["size"] == config["size"]
    assert re.fullmatch("[0-9a-f]{40}", config["oid"])
    assert not any("xetHash" in item for item in tree)


def test_the_pointer_of_a_file_is_that_of_git_lfs(trained: Trained) -> None:
    tree = _api(trained, "/tree/main").json()
    config = next(item for item in tree if item["path"] == "config.json")
    text = (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{config['lfs']['oid']}\nsize {config['size']}\n"
    ).encode()

    assert config["lfs"]["pointerSize"] == len(text)
    assert config["oid"] == hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest()


def test_a_folder_is_listed_by_itself(trained: Trained) -> None:
    top = [item["path"] for item in _api(trained, "/tree/main").json()]
    sub = [item["path"] for item in _api(trained, "/tree/main/sub%2Ffolder").json()]

    assert "sub" in top
    assert "sub/folder" not in top
    assert sub == ["sub/folder/notes.txt"]


def test_a_folder_that_is_not_there_is_no_entry(trained: Trained) -> None:
    response = _api(trained, "/tree/main/additional_chat_templates")

    _hub_error(response, "EntryNotFound")
    assert response.headers["x-repo-commit"] == trained.commits[4]


def test_a_tree_comes_in_pages(site: Site) -> None:
    lease = site.start()
    site.publish(lease, 1, {f"{number:03}.txt": b"x" for number in range(7)})
    url: str | None = f"/hf/api/models/jobs/{lease.job_id}/tree/main?limit=3&recursive=true"

    sizes = []
    while url is not None:
        response = site.client.get(url)
        sizes.append(len(response.json()))
        link = re.fullmatch('<(http.*)>; rel="next"', response.headers.get("link", ""))
        url = link[1] if link else None

    assert sizes == [3, 3, 1]


def test_an_expanded_tree_tells_the_last_commit(trained: Trained) -> None:
    tree = _api(trained, "/tree/main", params={"expand": "true"}).json()

    assert {item["lastCommit"]["id"] for item in tree} == {trained.commits[4]}
    assert {item["lastCommit"]["title"] for item in tree} == {"step-4"}


def test_blobs_tell_sizes_in_the_info(trained: Trained) -> None:
    found = _api(trained, params={"blobs": "true"}).json()["siblings"]

    sizes = {item["rfilename"]: item["size"] for item in found}
    assert sizes["config.json"] == len(WEIGHTS["config.json"])
    assert all(item["lfs"]["sha256"] and item["blobId"] for item in found)


@pytest.mark.parametrize("kind", ["data", "json"])
def test_paths_are_described_and_the_missing_left_out(trained: Trained, kind: str) -> None:
    body: Any = {kind: {"paths": ["sub", "nothing", "config.json"], "expand": "False"}}
    response = trained.site.client.post(f"/hf/api/models/{trained.name}/paths-info/main", **body)

    found = [(item["type"], item["path"]) for item in response.json()]
    assert found == [("directory", "sub"), ("file", "config.json")]


@pytest.mark.parametrize(
    "body", [{"json": {}}, {"json": {"paths": 1}}, {"json": []}, {"data": {"paths": ["x"] * 1001}}]
)
def test_paths_that_are_none_are_refused(trained: Trained, body: Any) -> None:
    url = f"/hf/api/models/{trained.name}/paths-info/main"

    problem_of(trained.site.client.post(url, **body), 400)


def test_refs_have_a_tag_for_each_checkpoint(trained: Trained) -> None:
    refs = _api(trained, "/refs").json()

    assert refs.keys() == {"branches", "converts", "tags", "pullRequests"}
    assert [(item["name"], item["targetCommit"]) for item in refs["branches"]] == [
        ("main", trained.commits[4])
    ]
    assert {item["name"]: item["targetCommit"] for item in refs["tags"]} == {
        f"step-{step}": commit for step, commit in trained.commits.items()
    }


def test_commits_are_the_checkpoints_up_to_a_revision(trained: Trained) -> None:
    assert [item["title"] for item in _api(trained, "/commits/main").json()] == ["step-4", "step-2"]
    assert [item["id"] for item in _api(trained, "/commits/step-2").json()] == [trained.commits[2]]


@pytest.mark.parametrize("revision", ["main", "step-4"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_file_of_a_branch_is_pinned_to_its_commit(
    trained: Trained, method: str, revision: str
) -> None:
    response = _resolve(trained, revision, "config.json", method)

    assert response.status_code == 307
    target = f"/hf/{trained.name}/resolve/{trained.commits[4]}/config.json"
    assert response.headers["location"] == target
    assert response.headers["x-repo-commit"] == trained.commits[4]


def test_head_tells_what_clients_need(trained: Trained) -> None:
    response = _resolve(trained, trained.commits[4], "config.json", "HEAD")

    content = WEIGHTS["config.json"]
    assert response.status_code == 200
    assert response.headers["x-repo-commit"] == trained.commits[4]
    assert response.headers["etag"] == f'"{_sha256(content)}"'
    assert response.headers["x-linked-etag"] == response.headers["etag"]
    assert response.headers["content-length"] == str(len(content))
    assert response.headers["x-linked-size"] == str(len(content))
    assert response.headers["accept-ranges"] == "bytes"
    assert not [name for name in response.headers if name.startswith("x-xet")]


def test_a_range_is_a_part_of_a_file(trained: Trained) -> None:
    content = WEIGHTS["model.safetensors"] + b"2"
    headers = {"range": "bytes=1000000-", "accept-encoding": "gzip"}

    response = _resolve(trained, trained.commits[2], "model.safetensors", headers=headers)

    assert (response.status_code, response.content) == (206, content[1_000_000:])
    assert response.headers["content-range"] == f"bytes 1000000-{len(content) - 1}/{len(content)}"
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize("path", ["nothing.json", "../step-2/config.json", "sub", "optimizer.pt"])
def test_a_file_that_is_not_there_is_no_entry(trained: Trained, path: str) -> None:
    response = _resolve(trained, trained.commits[4], path.replace("../", "%2e%2e%2f"))

    _hub_error(response, "EntryNotFound")
    assert response.headers["x-repo-commit"] == trained.commits[4]


@pytest.mark.parametrize("revision", ["other", "step-3", "step-04", NO_COMMIT, "refs%2Fpr%2F1"])
def test_a_revision_that_is_not_there_is_none(trained: Trained, revision: str) -> None:
    _hub_error(_api(trained, f"/revision/{revision}"), "RevisionNotFound")
    _hub_error(_api(trained, f"/tree/{revision}"), "RevisionNotFound")


@pytest.mark.parametrize(
    "name",
    [
        f"jobs/{NO_JOB}",
        f"jobs/{NO_JOB}.step-4",
        "jobs/x",
        "gpt2",
        "a/b",
        "local/nothing",
        "a--b",
    ],
)
def test_a_repository_that_is_not_there_is_none(site: Site, name: str) -> None:
    _hub_error(site.client.get(f"/hf/api/models/{name}"), "RepoNotFound")
    _hub_error(site.client.get(f"/hf/{name}/resolve/main/config.json"), "RepoNotFound")


def test_the_repository_of_a_job_without_checkpoints_has_no_revision(site: Site) -> None:
    job_id = site.submit()

    _hub_error(site.client.get(f"/hf/api/models/jobs/{job_id}"), "RevisionNotFound")
    assert site.client.get(f"/hf/api/models/jobs/{job_id}/refs").json()["branches"] == []


def test_a_damaged_checkpoint_is_not_offered(site: Site) -> None:
    lease = site.start()
    site.publish(lease, 2, WEIGHTS)
    damaged = site.publish(lease, 4, WEIGHTS)
    with site.database.write() as session:
        mark_corrupt(session, lease, damaged, reason="cut", now=database_now(session))

    name = f"/hf/api/models/jobs/{lease.job_id}"
    _hub_error(site.client.get(f"{name}/revision/step-4"), "RevisionNotFound")
    _hub_error(site.client.get(f"{name}.step-4"), "RepoNotFound")
    assert site.client.get(f"{name}/commits/main").json()[0]["title"] == "step-2"


def test_a_kind_that_is_not_served_is_not_found(site: Site) -> None:
    problem_of(site.client.get("/hf/api/spaces/a/b"), 404)
    problem_of(site.client.get("/hf/api/agent-harnesses"), 404)


def test_access_is_checked_by_name(trained: Trained) -> None:
    assert _api(trained, "/auth-check").json() == {}
    _hub_error(trained.site.client.get("/hf/api/models/a/b/auth-check"), "RepoNotFound")


def test_a_key_is_somebody(site: Site) -> None:
    found = site.client.get("/hf/api/whoami-v2").json()

    assert found["type"] == "user"
    assert found["name"]
    assert found["auth"]["accessToken"].keys() == {"displayName", "role", "createdAt"}


def test_a_wrong_key_is_told_as_the_hub_tells_it(api_settings: Settings, site: Site) -> None:
    with serving(changed(api_settings, api_key=KEY), site.database) as closed:
        response = closed.client.get(
            "/hf/api/models/a/b", headers={"authorization": "Bearer wrong-key-wrong-key"}
        )

    problem_of(response, 401)
    assert response.headers["x-error-message"] == "Invalid credentials in Authorization header"
    assert "x-error-code" not in response.headers


def test_an_uploaded_file_is_a_dataset(site: Site) -> None:
    file_id = site.upload()
    found = site.client.get(f"/hf/api/datasets/files/{file_id}").json()

    assert [item["rfilename"] for item in found["siblings"]] == ["train.jsonl"]
    response = site.client.get(f"/hf/datasets/files/{file_id}/resolve/main/train.jsonl")
    assert response.content == ROWS
    assert response.headers["etag"] == f'"{_sha256(ROWS)}"'
    _hub_error(site.client.get(f"/hf/api/models/files/{file_id}"), "RepoNotFound")


def test_a_packed_dataset_keeps_its_format_in_its_name(site: Site) -> None:
    file_id = site.upload(b"text\nrow\n", name="rows.csv")

    found = site.client.get(f"/hf/api/datasets/files/{file_id}").json()

    assert [item["rfilename"] for item in found["siblings"]] == ["train.csv"]


def test_a_model_folder_is_served_without_what_is_no_model(site: Site, models: Path) -> None:
    folder = models / "tiny"
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / ".env").write_text("TOKEN=x")

    found = site.client.get("/hf/api/models/local/tiny").json()

    assert [item["rfilename"] for item in found["siblings"]] == ["config.json", "model.safetensors"]
    url = f"/hf/local/tiny/resolve/{found['sha']}/model.safetensors"
    response = site.client.get(url)
    assert response.content == b"weights"
    assert response.headers["etag"] == f'"{_sha256(b"weights")}"'
    _hub_error(site.client.get(f"/hf/local/tiny/resolve/{found['sha']}/.env"), "EntryNotFound")


def test_a_model_folder_that_has_changed_is_another_commit(site: Site, models: Path) -> None:
    before = site.client.get("/hf/api/models/local/tiny").json()["sha"]
    (models / "tiny" / "config.json").write_text('{"changed": true}')

    assert site.client.get("/hf/api/models/local/tiny").json()["sha"] != before


def test_a_model_below_a_root_has_its_owners_name(site: Site, models: Path) -> None:
    folder = models / "Owner" / "Model-1B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")

    assert site.client.get("/hf/api/models/Owner/Model-1B").json()["id"] == "Owner/Model-1B"


def test_a_model_that_was_fetched_keeps_its_name_and_commit(
    site: Site, api_settings: Settings
) -> None:
    commit = "c" * 40
    weights = b"fetched weights"
    root = api_settings.scratch_folder / "cache/hub/hub/models--Owner--Fetched"
    snapshot = root / "snapshots" / commit
    for name, etag, content in [
        ("config.json", "a" * 40, b"{}"),
        ("model.safetensors", _sha256(weights), weights),
    ]:
        (root / "blobs").mkdir(parents=True, exist_ok=True)
        snapshot.mkdir(parents=True, exist_ok=True)
        (root / "blobs" / etag).write_bytes(content)
        (snapshot / name).symlink_to(f"../../blobs/{etag}")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)

    assert site.client.get("/hf/api/models/Owner/Fetched").json()["sha"] == commit
    response = site.client.get(f"/hf/Owner/Fetched/resolve/{commit}/config.json")
    assert (response.content, response.headers["etag"]) == (b"{}", f'"{"a" * 40}"')
    response = site.client.get("/hf/Owner/Fetched/resolve/main/model.safetensors")
    assert (response.content, response.headers["etag"]) == (weights, f'"{_sha256(weights)}"')


def test_repositories_are_listed(trained: Trained) -> None:
    client = trained.site.client

    found = [item["id"] for item in client.get("/hf/api/models").json()]
    assert found == [trained.name, "local/tiny"]
    assert [i["id"] for i in client.get("/hf/api/models?author=local").json()] == ["local/tiny"]
    assert len(client.get("/hf/api/datasets?search=FILES").json()) == 1
