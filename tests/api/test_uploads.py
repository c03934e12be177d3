"""Files in parts, and files that go by themselves."""

import hashlib
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from core.db import database_now
from core.errors import InvalidArgument
from core.files import delete_expired_files, get_file
from core.models import Job
from core.states import JobStatus
from core.uploads import (
    KEPT,
    MAX_SENT,
    add_part,
    complete_upload,
    create_upload,
    expire_uploads,
)
from tests.api.conftest import ROWS, Site, problem_of

UPLOADS = "/v1/uploads"
HOUR = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}


def _create(site: Site, **more: Any) -> dict[str, Any]:
    body = {
        "filename": "rows.jsonl",
        "purpose": "fine-tune",
        "bytes": len(ROWS),
        "mime_type": "application/jsonl",
        **more,
    }
    response = site.client.post(UPLOADS, json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def _add(site: Site, upload_id: str, content: bytes) -> str:
    response = site.client.post(f"{UPLOADS}/{upload_id}/parts", files={"data": ("x", content)})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def _complete(site: Site, upload_id: str, *part_ids: str, **more: Any) -> Any:
    url = f"{UPLOADS}/{upload_id}/complete"
    return site.client.post(url, json={"part_ids": list(part_ids), **more})


def test_parts_become_the_file_in_the_order_of_the_completion(site: Site) -> None:
    upload = _create(site)
    second = _add(site, upload["id"], ROWS[100:])
    first = _add(site, upload["id"], ROWS[:100])

    done = _complete(site, upload["id"], first, second, md5=hashlib.md5(ROWS).hexdigest()).json()

    assert (upload["status"], upload["file"]) == ("pending", None)
    assert upload["expires_at"] == upload["created_at"] + 3600
    assert (done["status"], done["object"]) == ("completed", "upload")
    file = done["file"]
    assert (file["filename"], file["bytes"], file["report"]["rows"]) == ("rows.jsonl", 370, 20)
    assert site.client.get(f"/v1/files/{file['id']}/content").content == ROWS
    assert not [path for path in site.stored() if "upload_" in str(path)]


def test_a_completion_that_is_repeated_makes_no_second_file(site: Site) -> None:
    upload = _create(site)
    part = _add(site, upload["id"], ROWS)

    first, second = (_complete(site, upload["id"], part) for _ in range(2))

    assert second.json() == first.json()
    assert len(site.client.get("/v1/files").json()["data"]) == 1


def test_a_wrong_md5_leaves_the_parts_and_no_file(site: Site) -> None:
    upload = _create(site)
    part = _add(site, upload["id"], ROWS)

    wrong = _complete(site, upload["id"], part, md5="0" * 32)

    assert problem_of(wrong, 400)["param"] == "md5"
    assert site.client.get("/v1/files").json()["data"] == []
    assert _complete(site, upload["id"], part).status_code == 200


def test_parts_of_another_length_are_refused(site: Site) -> None:
    upload = _create(site)
    part = _add(site, upload["id"], ROWS[:100])

    error = problem_of(_complete(site, upload["id"], part), 400)

    assert error["param"] == "part_ids"
    assert "370" in error["message"]


@pytest.mark.parametrize("wrong", ["part_0", "twice"])
def test_only_parts_that_are_there_can_be_put_together(site: Site, wrong: str) -> None:
    upload = _create(site)
    part = _add(site, upload["id"], ROWS)
    parts = [part, part] if wrong == "twice" else [part, wrong]

    error = problem_of(_complete(site, upload["id"], *parts), 400)

    assert error["param"] in ("part_ids", "part_ids.1")


def test_bad_rows_are_found_when_the_parts_are_put_together(site: Site) -> None:
    content = b'{"text": "a"}\n{"text": 5}\n'
    upload = _create(site, bytes=len(content))
    part = _add(site, upload["id"], content)

    assert "line 2" in problem_of(_complete(site, upload["id"], part), 400)["message"]


def test_a_cancelled_upload_takes_nothing_more(site: Site) -> None:
    upload = _create(site)
    part = _add(site, upload["id"], ROWS)

    cancelled = [site.client.post(f"{UPLOADS}/{upload['id']}/cancel").json() for _ in range(2)]

    assert [item["status"] for item in cancelled] == ["cancelled", "cancelled"]
    assert problem_of(_complete(site, upload["id"], part), 400)["code"] == "invalid_state"
    response = site.client.post(f"{UPLOADS}/{upload['id']}/parts", files={"data": ("x", ROWS)})
    assert problem_of(response, 400)["code"] == "invalid_state"
    assert site.stored() == []


def test_an_upload_that_nobody_completes_expires(site: Site) -> None:
    upload = _create(site)
    _add(site, upload["id"], ROWS)

    with site.database.write() as session:
        now = database_now(session)
        assert expire_uploads(session, site.storage, now=now) == 0
        assert expire_uploads(session, site.storage, now=now + KEPT) == 1

    response = site.client.post(f"{UPLOADS}/{upload['id']}/cancel")
    assert "expired" in problem_of(response, 400)["message"]
    assert site.stored() == []


def test_an_upload_holds_no_more_than_its_retries_need(site: Site) -> None:
    upload = _create(site)
    for _ in range(MAX_SENT):
        _add(site, upload["id"], ROWS)

    url = f"{UPLOADS}/{upload['id']}/parts"
    one_more = site.client.post(url, files={"data": ("x", ROWS)})
    too_long = site.client.post(url, files={"data": ("x", ROWS + b"x")})

    assert problem_of(one_more, 400)["param"] == "data"
    assert problem_of(too_long, 400)["param"] == "data"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bytes", 0),
        ("bytes", "1"),
        ("bytes", None),
        ("purpose", "mischief"),
        ("filename", ""),
        ("expires_after", {"anchor": "created_at", "seconds": 1}),
        ("expires_after", {"anchor": "now", "seconds": 3600}),
        ("unknown", 1),
    ],
)
def test_a_bad_upload_names_its_field(site: Site, field: str, value: Any) -> None:
    body = {"filename": "a", "purpose": "batch", "bytes": 1, "mime_type": "text/plain"}

    error = problem_of(site.client.post(UPLOADS, json=body | {field: value}), 400)

    assert error["param"].startswith(field)


def test_a_file_larger_than_the_limit_is_refused_before_its_parts(site: Site) -> None:
    body = {"filename": "a", "purpose": "batch", "bytes": 2**50, "mime_type": "text/plain"}

    assert problem_of(site.client.post(UPLOADS, json=body), 413)["code"] == "too_large"


@pytest.mark.parametrize("path", ["parts", "complete", "cancel"])
def test_an_upload_that_is_not_there_is_not_found(site: Site, path: str) -> None:
    sent: dict[str, Any] = {
        "parts": {"files": {"data": ("x", b"x")}},
        "complete": {"json": {"part_ids": ["part_1"]}},
        "cancel": {},
    }
    response = site.client.post(f"{UPLOADS}/upload_x/{path}", **sent[path])

    assert problem_of(response, 404)["code"] == "upload_not_found"


def test_parts_are_put_together_in_constant_memory(site: Site) -> None:
    piece, pieces, parts = b"x" * 2**20, 32, 4
    size = len(piece) * pieces * parts

    def chunks() -> Iterator[bytes]:
        for _ in range(pieces):
            yield bytes(piece)

    database, storage = site.database, site.storage
    with database.write() as session:
        upload = create_upload(
            session,
            filename="big",
            purpose="user_data",
            mime_type="text/plain",
            size_bytes=size,
            max_bytes=size,
            expires_after_seconds=None,
        )
    tracemalloc.start()
    ids = [
        add_part(database, storage, upload.id, chunks(), size=len(piece) * pieces).id
        for _ in range(parts)
    ]
    _, file = complete_upload(database, storage, upload.id, part_ids=ids, md5=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert file.size_bytes == size
    assert peak < size / 4


def test_a_file_goes_when_its_time_is_over(site: Site) -> None:
    kept = site.upload()
    response = site.post_file(fields=HOUR)
    file = response.json()

    assert file["expires_at"] == file["created_at"] + 3600
    with site.database.write() as session:
        now = database_now(session)
        assert delete_expired_files(session, site.storage, now=now) == 0
        later = now + timedelta(seconds=3601)
        assert delete_expired_files(session, site.storage, now=later) == 1
    problem_of(site.client.get(f"/v1/files/{file['id']}"), 404)
    assert [path.name for path in site.stored()] == [kept]


def test_a_file_whose_time_is_over_stays_as_long_as_a_job_needs_it(site: Site) -> None:
    file_id = site.post_file(fields=HOUR).json()["id"]
    job_id = site.submit(training_file=file_id)

    with site.database.write() as session:
        later = database_now(session) + timedelta(days=1)
        assert delete_expired_files(session, site.storage, now=later) == 0
        session.get_one(Job, job_id).status = JobStatus.CANCELLED
        assert get_file(session, file_id).id == file_id
        assert delete_expired_files(session, site.storage, now=later) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_after[seconds]": "3600"},
        {"expires_after[anchor]": "created_at"},
        HOUR | {"expires_after[seconds]": "3599"},
        HOUR | {"expires_after[seconds]": "2592001"},
        HOUR | {"expires_after[seconds]": "soon"},
        HOUR | {"expires_after[anchor]": "now"},
    ],
)
def test_a_bad_expiry_is_refused(site: Site, fields: dict[str, str]) -> None:
    error = problem_of(site.post_file(fields=fields), 400)

    assert error["param"].startswith("expires_after")
    assert site.stored() == []


def test_an_upload_hands_its_expiry_to_the_file(site: Site) -> None:
    upload = _create(site, expires_after={"anchor": "created_at", "seconds": 7200})
    part = _add(site, upload["id"], ROWS)

    file = _complete(site, upload["id"], part).json()["file"]

    assert file["expires_at"] == file["created_at"] + 7200


def test_a_part_that_the_storage_cannot_give_is_no_file(site: Site) -> None:
    upload = _create(site)
    part = _add(site, upload["id"], ROWS)
    site.storage.delete(f"uploads/{upload['id']}/{part}")

    assert _complete(site, upload["id"], part).status_code >= 400
    assert site.client.get("/v1/files").json()["data"] == []


def test_a_purpose_is_checked_before_anything_is_stored(site: Site) -> None:
    with site.database.write() as session, pytest.raises(InvalidArgument):
        create_upload(
            session,
            filename="a",
            purpose="mischief",
            mime_type="",
            size_bytes=1,
            max_bytes=1,
            expires_after_seconds=None,
        )
