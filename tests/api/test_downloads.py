"""Downloads of files and checkpoints: whole, in ranges, by tag, and as an archive."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from app.download import tar_response
from core.checkpoints import ManifestEntry, mark_corrupt
from core.db import database_now
from core.queue import Lease
from core.storage import Storage
from tests.api.conftest import JOBS, ROWS, Site, problem_of

SIZE = len(ROWS)
TAG = f'"{hashlib.sha256(ROWS).hexdigest()}"'
WEIGHTS = {
    "model.safetensors": bytes(range(256)) * 100,
    "config.json": b"{}",
    "empty.txt": b"",
    "one-block.dat": b"x" * 512,
    "sub/folder/tokens.json": b"[]",
    f"{'long-name-' * 20}.dat": b"long",
}
STATE = {"optimizer.pt": b"state" * 50, "trainer_state.json": b"{}"}
FILES = WEIGHTS | STATE


@pytest.fixture
def content(site: Site) -> str:
    """Where an uploaded file is downloaded."""
    return f"/v1/files/{site.upload()}/content"


@pytest.fixture
def lease(site: Site) -> Lease:
    """A running job with a checkpoint of step 4."""
    lease = site.start()
    site.publish(lease, 4, FILES)
    return lease


def _path(lease: Lease, rest: str = "") -> str:
    return f"{JOBS}/{lease.job_id}/checkpoints{rest}"


def _unpacked(content: bytes, folder: str) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = archive.getmembers()
        assert all(member.isfile() for member in members)
        return {
            member.name.removeprefix(f"{folder}/"): archive.extractfile(member).read()
            for member in members
        }


def test_a_download_is_tagged_with_its_hash(site: Site, content: str) -> None:
    response = site.client.get(content)

    assert response.content == ROWS
    assert response.headers["etag"] == TAG
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-length"] == str(SIZE)
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("0-0", 0, 1),
        ("0-9", 0, 10),
        ("10-19", 10, 20),
        ("10-", 10, SIZE),
        ("-7", SIZE - 7, SIZE),
        (f"{SIZE - 1}-", SIZE - 1, SIZE),
        (f"5-{SIZE + 1000}", 5, SIZE),
        (f"-{SIZE + 1000}", 0, SIZE),
    ],
)
def test_a_range_is_a_part_of_the_bytes(
    site: Site, content: str, wanted: str, start: int, end: int
) -> None:
    response = site.client.get(content, headers={"range": f"bytes={wanted}"})

    assert response.status_code == 206
    assert response.content == ROWS[start:end]
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert response.headers["content-length"] == str(end - start)
    assert response.headers["etag"] == TAG


@pytest.mark.parametrize("wanted", [f"{SIZE}-", f"{SIZE + 10}-{SIZE + 20}", "-0"])
def test_a_range_beyond_the_end_cannot_be_had(site: Site, content: str, wanted: str) -> None:
    response = site.client.get(content, headers={"range": f"bytes={wanted}"})

    problem_of(response, 416)
    assert response.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "wanted",
    ["bytes", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=5-2", f"bytes={'9' * 5000}x-"],
)
def test_a_range_that_nobody_understands_is_no_range(site: Site, content: str, wanted: str) -> None:
    response = site.client.get(content, headers={"range": wanted})

    assert (response.status_code, response.content) == (200, ROWS)


def test_a_download_that_broke_off_goes_on(site: Site, content: str) -> None:
    head = site.client.get(content, headers={"range": "bytes=0-99"})
    more = {"range": "bytes=100-", "if-range": head.headers["etag"]}

    rest = site.client.get(content, headers=more)

    assert rest.status_code == 206
    assert head.content + rest.content == ROWS


def test_a_range_of_what_has_changed_is_the_whole(site: Site, content: str) -> None:
    response = site.client.get(content, headers={"range": "bytes=0-9", "if-range": '"other"'})

    assert (response.status_code, response.content) == (200, ROWS)


@pytest.mark.parametrize("tags", [TAG, f"W/{TAG}", f'"other", {TAG}', "*"])
def test_what_a_client_has_is_not_sent_again(site: Site, content: str, tags: str) -> None:
    response = site.client.get(content, headers={"if-none-match": tags})

    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == TAG


def test_what_a_client_does_not_have_is_sent(site: Site, content: str) -> None:
    response = site.client.get(content, headers={"if-none-match": '"other"'})

    assert (response.status_code, response.content) == (200, ROWS)


@pytest.mark.parametrize(("headers", "status"), [({}, 200), ({"range": "bytes=0-9"}, 206)])
def test_head_has_the_headers_of_get_and_no_bytes(
    site: Site, content: str, headers: dict[str, str], status: int
) -> None:
    head = site.client.head(content, headers=headers)
    get = site.client.get(content, headers=headers)

    assert (head.status_code, head.content) == (status, b"")
    own = ("x-request-id",)
    assert {name: value for name, value in head.headers.items() if name not in own} == {
        name: value for name, value in get.headers.items() if name not in own
    }


def test_bytes_that_are_gone_are_not_found(site: Site, content: str) -> None:
    for path in site.stored():
        path.unlink()

    assert problem_of(site.client.get(content), 404)["code"] == "not_found"


def test_a_checkpoint_is_described(site: Site, lease: Lease) -> None:
    shown = site.client.get(_path(lease, "/4")).json()

    assert shown["object"] == "fine_tuning.job.checkpoint"
    assert shown["fine_tuning_job_id"] == lease.job_id
    assert shown["fine_tuned_model_checkpoint"] == f"jobs/{lease.job_id}.step-4"
    assert shown["step_number"] == 4
    assert shown["metrics"] == {"step": 4, "train_loss": 1.5}
    assert shown["size_bytes"] == sum(map(len, FILES.values()))
    assert shown["is_corrupt"] is False
    found = {item["path"]: (item["size_bytes"], item["sha256"]) for item in shown["files"]}
    assert found == {
        path: (len(content), hashlib.sha256(content).hexdigest()) for path, content in FILES.items()
    }
    parts = {item["path"]: item["part"] for item in shown["files"]}
    assert {path for path, part in parts.items() if part == "state"} == STATE.keys()


def test_a_checkpoint_tells_where_it_is(site: Site, lease: Lease) -> None:
    location = site.client.get(_path(lease, "/4")).json()["location"]

    folder = Path(location.removeprefix("file://"))
    assert (folder / "config.json").read_bytes() == b"{}"


def test_a_damaged_checkpoint_says_so(site: Site, lease: Lease) -> None:
    checkpoint = site.publish(lease, 8, {"a": b"a"})
    with site.database.write() as session:
        mark_corrupt(session, lease, checkpoint, reason="cut", now=database_now(session))

    shown = site.client.get(_path(lease)).json()["data"]

    assert [item["is_corrupt"] for item in shown] == [True, False]


def test_checkpoints_are_listed_in_pages_the_newest_first(site: Site, lease: Lease) -> None:
    for step in (6, 8, 10):
        site.publish(lease, step, {"a": b"a"})

    first = site.client.get(_path(lease), params={"limit": 2}).json()
    rest = site.client.get(_path(lease), params={"after": first["last_id"]}).json()

    assert [item["step_number"] for item in first["data"]] == [10, 8]
    assert first["has_more"] is True
    assert [item["step_number"] for item in rest["data"]] == [6, 4]
    assert rest["has_more"] is False


@pytest.mark.parametrize("path", FILES)
def test_each_file_of_a_checkpoint_can_be_downloaded(site: Site, lease: Lease, path: str) -> None:
    response = site.client.get(_path(lease, f"/4/files/{path}"))

    assert (response.status_code, response.content) == (200, FILES[path])
    assert response.headers["etag"] == f'"{hashlib.sha256(FILES[path]).hexdigest()}"'
    assert path.rpartition("/")[2] in response.headers["content-disposition"]


def test_a_file_of_a_checkpoint_has_ranges_too(site: Site, lease: Lease) -> None:
    path = _path(lease, "/4/files/model.safetensors")

    response = site.client.get(path, headers={"range": "bytes=256-511"})

    assert (response.status_code, response.content) == (206, bytes(range(256)))


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "sub",
        "sub/folder",
        "../step-4/config.json",
        "..%2f..%2f..%2fx",
        "%2fetc%2fpasswd",
    ],
)
def test_only_names_of_the_manifest_lead_to_bytes(site: Site, lease: Lease, path: str) -> None:
    problem_of(site.client.get(_path(lease, f"/4/files/{path}")), 404)


@pytest.mark.parametrize(
    ("query", "files"), [("", WEIGHTS), ("?part=weights", WEIGHTS), ("?part=all", FILES)]
)
def test_an_archive_is_the_files(
    site: Site, lease: Lease, query: str, files: dict[str, bytes]
) -> None:
    folder = f"{lease.job_id}-step-4"

    response = site.client.get(_path(lease, f"/4/archive{query}"))

    assert response.headers["content-type"] == "application/x-tar"
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["content-disposition"] == f'attachment; filename="{folder}.tar"'
    assert _unpacked(response.content, folder) == files


def test_an_archive_over_a_real_connection_is_whole(site: Site, lease: Lease, url: str) -> None:
    folder = f"{lease.job_id}-step-4"

    response = site.client.get(f"{url}{_path(lease, '/4/archive?part=all')}")

    assert _unpacked(response.content, folder) == FILES


def test_an_archive_can_hold_files_of_any_size(storage: Storage) -> None:
    size = 20 * 1024**3
    entries = [ManifestEntry("model.safetensors", size, "0" * 64, "weights")]

    response = tar_response(storage, prefix="jobs/x", entries=entries, folder="x", mtime=0)

    assert int(response.headers["content-length"]) == size + 3 * 512
