"""OpenAI's files: what is uploaded is checked, kept as it is, listed and deleted."""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.db import Database
from core.settings import Settings
from tests.api.conftest import NO_FILE, ROWS, Site, changed, jsonl, problem_of, serving

MESSAGES = jsonl(
    {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
)
UPLOADS = {
    "text": ROWS,
    "text without a last newline": ROWS.rstrip(b"\n"),
    "text with blank lines": b"\n" + ROWS + b"\n\n",
    "text with a mark in front": b"\xef\xbb\xbf" + ROWS,
    "windows line ends": ROWS.replace(b"\n", b"\r\n"),
    "not ASCII": '{"text": "gr\u00fc\u00dfe \U0001f600"}\n'.encode(),
    "messages": MESSAGES,
    "prompt and completion": jsonl({"prompt": "a", "completion": "b"}),
    "columns": jsonl({"question": "a", "answer": "b"}),
    "larger than one chunk": jsonl(*({"text": "x" * 1000, "n": n} for n in range(2500))),
}
LIMIT = 200_000


@pytest.fixture
def narrow(api_settings: Settings, database: Database) -> Iterator[Site]:
    """A server that takes files up to LIMIT."""
    with serving(changed(api_settings, max_upload_bytes=LIMIT), database) as site:
        yield site


def _ids(site: Site, **query: str | int) -> list[str]:
    page = site.client.get("/v1/files", params=query).json()
    return [item["id"] for item in page["data"]]


@pytest.mark.parametrize("content", UPLOADS.values(), ids=UPLOADS)
def test_a_file_comes_back_byte_for_byte(site: Site, content: bytes) -> None:
    created = site.post_file(content).json()

    downloaded = site.client.get(f"/v1/files/{created['id']}/content")

    assert created["bytes"] == len(content)
    assert created["sha256"] == hashlib.sha256(content).hexdigest()
    assert downloaded.content == content


def test_an_upload_tells_what_is_in_it(site: Site) -> None:
    created = site.post_file().json()

    assert created["object"] == "file"
    assert created["filename"] == "rows.jsonl"
    assert created["purpose"] == "fine-tune"
    assert created["status"] == "processed"
    assert created["report"]["rows"] == 20
    assert created["report"]["shape"] == "text"
    assert site.client.get(f"/v1/files/{created['id']}").json() == created


def test_a_file_for_another_purpose_is_taken_as_it_is(site: Site) -> None:
    created = site.post_file(b"\x00\xff anything", purpose="user_data").json()

    assert created["report"] is None
    assert site.client.get(f"/v1/files/{created['id']}/content").content == b"\x00\xff anything"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "gr\u00fc\u00dfe.jsonl", "a" * 300, 'a"b\r\nc']
)
def test_a_file_name_is_only_a_label(site: Site, name: str) -> None:
    file_id = site.upload(name=name)

    downloaded = site.client.get(f"/v1/files/{file_id}/content")

    assert downloaded.content == ROWS
    assert downloaded.headers["content-disposition"].isascii()
    assert [path.name for path in site.stored()] == [file_id]


def test_a_file_of_just_the_limit_is_taken(narrow: Site) -> None:
    content = jsonl({"text": "x" * (LIMIT - len(jsonl({"text": ""})))})
    assert len(content) == LIMIT

    assert narrow.post_file(content).json()["bytes"] == LIMIT


@pytest.mark.parametrize("excess", [1, 60_000, 1_000_000])
def test_a_too_large_upload_is_refused_and_leaves_nothing(narrow: Site, excess: int) -> None:
    content = jsonl({"text": "x" * (LIMIT - len(jsonl({"text": ""})) + excess)})

    response = narrow.post_file(content)

    assert problem_of(response, 413)["code"] == "too_large"
    assert narrow.stored() == []
    assert _ids(narrow) == []


def test_a_too_large_upload_that_does_not_tell_its_size_is_refused(narrow: Site) -> None:
    head = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(100):
            yield ROWS * 100

    response = narrow.client.post(
        "/v1/files", content=body(), headers={"content-type": "multipart/form-data; boundary=x"}
    )

    assert problem_of(response, 413)["code"] == "too_large"
    assert narrow.stored() == []


def test_files_are_listed_in_pages(site: Site) -> None:
    ids = [site.upload() for _ in range(5)]
    newest = ids[::-1]

    first = site.client.get("/v1/files", params={"limit": 2}).json()
    second = site.client.get("/v1/files", params={"limit": 3, "after": first["last_id"]}).json()

    assert first["object"] == "list"
    assert [item["id"] for item in first["data"]] == newest[:2]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, ids[4], ids[3])
    assert [item["id"] for item in second["data"]] == newest[2:]
    assert second["has_more"] is False


def test_files_are_listed_in_the_order_that_is_asked_for(site: Site) -> None:
    ids = [site.upload() for _ in range(3)]

    assert _ids(site, order="asc") == ids
    assert _ids(site, order="asc", after=ids[0]) == ids[1:]
    assert _ids(site) == ids[::-1]


def test_files_are_filtered_by_purpose(site: Site) -> None:
    site.upload()
    other = site.upload(b"x", purpose="user_data")

    assert _ids(site, purpose="user_data") == [other]
    assert _ids(site, purpose="batch") == []


def test_a_list_of_nothing_has_no_ids(site: Site) -> None:
    page = site.client.get("/v1/files").json()

    assert page == {
        "object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None
    }  # fmt: skip


def test_a_deleted_file_is_gone_with_its_bytes(site: Site) -> None:
    file_id = site.upload()

    answer = site.client.delete(f"/v1/files/{file_id}").json()

    assert answer == {"id": file_id, "object": "file", "deleted": True}
    assert site.stored() == []
    for path in (f"/v1/files/{file_id}", f"/v1/files/{file_id}/content"):
        assert problem_of(site.client.get(path), 404)["code"] == "file_not_found"


def test_a_file_that_a_job_needs_stays_until_the_job_is_over(site: Site) -> None:
    file_id = site.upload()
    job_id = site.submit(training_file=file_id)

    refused = site.client.delete(f"/v1/files/{file_id}")
    site.client.post(f"/v1/fine_tuning/jobs/{job_id}/cancel")
    accepted = site.client.delete(f"/v1/files/{file_id}")

    assert problem_of(refused, 400)["code"] == "invalid_state"
    assert accepted.status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_file_is_not_found(site: Site, method: str) -> None:
    error = problem_of(site.client.request(method, f"/v1/files/{NO_FILE}"), 404)

    assert (error["code"], error["param"]) == ("file_not_found", "file_id")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b"instruction;output\na;b\n"),
        ("rows.json", b'[{"instruction": "a", "output": "b"}]'),
        ("rows.jsonl.gz", gzip.compress(jsonl({"instruction": "a", "output": "b"}), mtime=0)),
    ],
)
def test_other_formats_are_told_by_name_and_content(site: Site, name: str, content: bytes) -> None:
    created = site.post_file(content, name=name).json()

    assert created["report"]["shape"] == "alpaca"
    assert created["report"]["format"] == name.split(".")[1]
    assert site.client.get(f"/v1/files/{created['id']}/content").content == content


def test_a_table_is_validated_once_it_is_stored(site: Site, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", None]}), tmp_path / "a.parquet")

    response = site.post_file((tmp_path / "a.parquet").read_bytes(), name="a.parquet")

    assert 'line 2: "text" is null' in problem_of(response, 400)["message"]
    assert site.stored() == []
