"""What only the operator knows is in no answer, also where everything goes wrong.

What a training publishes, logs and tells is looked at in `tests/worker/test_published.py`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from core.db import Database
from core.settings import Settings
from tests.api.conftest import JOBS, LOCAL, Site, changed, jsonl, serving

KEY, TOKEN, SECRET = (f"{name}-canary-0123456789" for name in ("ty", "hf", "s3"))
PARQUET = b"PAR1" + bytes(100) + b"PAR1"
REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/v1/nothing", {}),
    ("PATCH", "/v1/files", {}),
    ("GET", "/v1/files/file-000000000000000000000000/content", {}),
    ("GET", f"{JOBS}/%00", {}),
    ("POST", JOBS, {"content": b"{"}),
    ("POST", JOBS, {"json": {"model": "local/missing", "training_file": "file-1"}}),
    ("POST", JOBS, {"json": {"model": "local/tiny", "training_file": "FILE"}}),
    ("POST", JOBS, {"json": {"model": "local/tiny", "training_file": "FILE", "template": "{{"}}),
    ("POST", "/v1/fine_tuning/plan", {"json": {"model": "local/tiny", "training_file": "FILE"}}),
    ("POST", "/v1/fine_tuning/tokens", {"json": {"model": "local/tiny", "training_file": "FILE"}}),
    ("POST", "/v1/webhook_endpoints", {"json": {"name": "a", "url": "https://localhost/"}}),
    ("POST", "/v1/files", {"files": {"file": ("a.parquet", PARQUET)}}),
    ("POST", "/v1/files", {"files": {"file": ("a.jsonl", b"{")}}),
    ("GET", "/hf/api/models/local/tiny", {}),
    ("GET", "/hf/local/tiny/resolve/main/nothing.json", {}),
    ("GET", "/v1/models", {}),
    ("GET", "/readyz", {}),
    ("GET", "/openapi.json", {}),
]


@pytest.fixture
def locked(api_settings: Settings, database: Database) -> Iterator[Site]:
    """A server with secrets."""
    secrets = {"api_key": KEY, "hf_token": TOKEN, "s3_secret_key": SECRET}
    settings = changed(api_settings, **secrets)
    with serving(settings, database, authorization=f"Bearer {KEY}") as site:
        yield site


@pytest.fixture
def canaries(tmp_path: Path) -> list[str]:
    """All that no answer may have."""
    package = Path(__file__).parents[2]
    return [KEY, TOKEN, SECRET, str(tmp_path), str(package), "Traceback", "sqlalchemy", "SELECT"]


@pytest.mark.parametrize("is_broken", [False, True], ids=["at work", "a database in ruins"])
def test_no_answer_tells_what_only_the_operator_knows(
    locked: Site, canaries: list[str], is_broken: bool
) -> None:
    file_id = locked.upload(jsonl({"text": "a"}))
    if is_broken:
        # Its own words are "no such table" and the statement.
        with locked.database.write() as session:
            session.execute(text("ALTER TABLE files RENAME TO ruins"))
    client = type(locked.client)(locked.client.app, base_url=LOCAL, raise_server_exceptions=False)
    client.headers.update(locked.client.headers)
    try:
        statuses = set()
        for method, path, options in REQUESTS:
            answer = client.request(method, path, **_filled(options, file_id))
            statuses.add(answer.status_code)
            seen = f"{answer.headers} {answer.text}"
            assert [canary for canary in canaries if canary in seen] == [], path
    finally:
        if is_broken:
            with locked.database.write() as session:
                session.execute(text("ALTER TABLE ruins RENAME TO files"))
    assert (503 in statuses) == is_broken


def _filled(options: dict[str, Any], file_id: str) -> dict[str, Any]:
    if "files" in options:
        return {**options, "data": {"purpose": "fine-tune"}}
    body = options.get("json", {})
    if body.get("training_file") == "FILE":
        return {"json": {**body, "training_file": file_id}}
    return options
