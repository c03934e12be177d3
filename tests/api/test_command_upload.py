"""Large files that the command sends in parts, over more than one run of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client
from cli.config import Connection, state_folder
from cli.errors import Exit, UserError
from cli.transfer import upload
from tests.api.conftest import ROWS, Site, jsonl

# To the command all databases are the same.
pytestmark = pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
PART_BYTES = 100


class Breaking(Client):
    """Loses its server after some parts, and counts those that it has sent."""

    def __init__(self, url: str, parts: int):
        super().__init__(Connection(url, None, "test"))
        self.left = parts
        self.sent = 0

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        if path.endswith("/parts"):
            if self.sent == self.left:
                raise UserError("The line broke.", code=Exit.ERROR)
            self.sent += 1
        return super().call(method, path, **arguments)


Make = Callable[..., Breaking]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    return path


@pytest.fixture
def breaking(url: str) -> Iterator[Make]:
    """Makes clients of the server that break after so many parts."""
    made: list[Breaking] = []

    def make(parts: int = 99) -> Breaking:
        made.append(Breaking(url, parts))
        return made[-1]

    yield make
    for client in made:
        client.close()


def _notes() -> list[Path]:
    return list((state_folder() / "uploads").glob("*"))


def _break(client: Breaking, source: Path) -> None:
    with pytest.raises(UserError, match="The line broke"):
        upload(client, source, part_bytes=PART_BYTES)
    assert len(_notes()) == 1


def test_the_next_run_sends_only_what_is_missing(site: Site, breaking: Make, source: Path) -> None:
    _break(breaking(3), source)
    client = breaking()

    file = upload(client, source, part_bytes=PART_BYTES)

    assert client.sent == -(-len(ROWS) // PART_BYTES) - 3
    assert site.client.get(f"/v1/files/{file['id']}/content").content == ROWS
    assert _notes() == []


def test_a_part_that_has_changed_is_sent_again(site: Site, breaking: Make, source: Path) -> None:
    _break(breaking(2), source)
    changed = ROWS.replace(b"row 0", b"row X")
    source.write_bytes(changed)
    client = breaking()

    file = upload(client, source, part_bytes=PART_BYTES)

    assert client.sent == -(-len(ROWS) // PART_BYTES) - 1
    assert site.client.get(f"/v1/files/{file['id']}/content").content == changed


@pytest.mark.parametrize("ended", ["cancelled", "unknown", "garbled"])
def test_an_upload_that_is_over_begins_anew(
    site: Site, breaking: Make, source: Path, ended: str
) -> None:
    _break(breaking(2), source)
    (note,) = _notes()
    kept = json.loads(note.read_text())
    if ended == "cancelled":
        site.client.post(f"/v1/uploads/{kept['upload_id']}/cancel")
    else:
        unknown = json.dumps(kept | {"upload_id": "upload_x"})
        note.write_text(unknown if ended == "unknown" else "{")

    file = upload(breaking(), source, part_bytes=PART_BYTES)

    assert site.client.get(f"/v1/files/{file['id']}/content").content == ROWS
    assert _notes() == []


def test_bad_rows_end_with_their_own_exit_code(site: Site, breaking: Make, source: Path) -> None:
    source.write_bytes(jsonl(*[{"text": "good"}] * 20) + b'{"text": \n')

    with pytest.raises(UserError) as caught:
        upload(breaking(), source, part_bytes=PART_BYTES)

    assert caught.value.code is Exit.DATA_REFUSED
