"""What a client is told when a disk of the server is full, and that nothing is left behind."""

import pytest

from core.db import database_now
from core.jobs import get_job
from core.models import Worker
from tests.api.conftest import Site, jsonl, problem_of
from tests.limits import small_files

MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("size", "limit"),
    [(600_000, 100_000), (3 * MEGABYTE, MEGABYTE + 200_000)],
    ids=["storage", "temporary file"],
)
def test_an_upload_without_room_is_refused_and_leaves_nothing(
    site: Site, size: int, limit: int
) -> None:
    content = jsonl(*({"text": "x" * 1000} for _ in range(size // 1000)))

    with small_files(limit):
        response = site.post_file(content)

    assert problem_of(response, 507)["code"] == "storage_full"
    assert response.headers["x-should-retry"] == "false"
    assert site.stored() == []
    assert site.post_file(content).status_code == 200


def test_a_job_without_room_says_what_it_waits_for(site: Site) -> None:
    job_id = site.submit()
    with site.database.write() as session:
        facts = {"scratch_free_bytes": 10**9, "storage_free_bytes": None}
        now = database_now(session)
        session.add(Worker(name="small", heartbeat_at=now, slots=1, facts=facts))
        get_job(session, job_id).scratch_bytes = 2 * 10**9

    job = site.client.get(f"/v1/fine_tuning/jobs/{job_id}").json()

    assert job["queue"]["reason"].startswith("waits for disk space: needs 2.00 GB")
