"""What the publisher does when the storage or the database does not do its part."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from core.checkpoints import list_checkpoints
from core.db import Database
from core.errors import StorageForbidden, StorageFull, Unavailable
from core.events import read_events
from core.queue import Lease
from core.states import EventKind
from core.storage import Storage, StoredObject, open_storage
from tests.factories import make_attempt
from worker.publisher import Finished, Publisher
from worker.recorder import Recorder

CONTENT = b"0123456789" * 1000


class FaultyStorage(Storage):
    """A real folder; each store first takes a fault from the list, if one is left."""

    faults: list[Callable[[StoredObject, Path], None]]

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> StoredObject:
        stored = super().put_stream(key, chunks)
        if self.faults and key.endswith(".safetensors"):
            path = self.local_path(key)
            assert path is not None
            self.faults.pop(0)(stored, path)
        return stored


def away(stored: StoredObject, path: Path) -> None:
    raise Unavailable("The storage is away.")


def forbid(stored: StoredObject, path: Path) -> None:
    raise StorageForbidden("The storage refuses the keys of this server: 403")


def fill(stored: StoredObject, path: Path) -> None:
    raise StorageFull


def flip(stored: StoredObject, path: Path) -> None:
    path.write_bytes(b"X" + CONTENT[1:])


def cut(stored: StoredObject, path: Path) -> None:
    path.write_bytes(CONTENT[:-1])


class UncertainDatabase(Database):
    """A real database whose answers to some commits are lost: they are done nevertheless."""

    lost_answers = 0

    @contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            yield session
        if self.lost_answers:
            self.lost_answers -= 1
            raise Unavailable


@pytest.fixture
def faulty(tmp_path: Path) -> FaultyStorage:
    url = f"file://{tmp_path / 'storage'}"
    storage = FaultyStorage(open_storage(url)._store, url=url)
    storage.faults = []
    return storage


@pytest.fixture
def running(database: Database) -> Lease:
    with database.write() as session:
        return make_attempt(session)[1]


def publish(database: Database, storage: Storage, lease: Lease, folder: Path) -> Publisher:
    """Publish one checkpoint of step 5, and wait until it is published or given up."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(CONTENT)
    published = threading.Event()
    recorder = Recorder(database, lease, flush_seconds=0.01)
    publisher = Publisher(
        database,
        storage,
        lease,
        recorder=recorder,
        on_published=lambda _: published.set(),
        full_seconds=0.2,
    )
    publisher.add(Finished(5, folder, {}))
    publisher.finish()
    while not publisher.is_done:
        published.wait(0.01)
    recorder.barrier()
    publisher.close()
    recorder.close()
    return publisher


def checkpoint_events(database: Database, lease: Lease) -> list[int]:
    with database.read() as session:
        events = read_events(session, lease.job_id, after_seq=0)
    return [event.data["step"] for event in events if event.kind is EventKind.CHECKPOINT]


@pytest.mark.parametrize("fault", [away, flip, cut])
def test_a_checkpoint_is_visible_only_when_its_bytes_are_right(
    database: Database, faulty: FaultyStorage, running: Lease, tmp_path: Path, fault
) -> None:
    faulty.faults = [fault, fault]

    publisher = publish(database, faulty, running, tmp_path / "checkpoint-5")

    assert publisher.last_step == 5
    assert checkpoint_events(database, running) == [5]
    with database.read() as session:
        checkpoint = list_checkpoints(session, running.job_id)[0]
        messages = [e.message for e in read_events(session, running.job_id, after_seq=0)]
    assert faulty.read_bytes(f"{checkpoint.prefix}/model.safetensors") == CONTENT
    assert sum("step 5 waits to be stored" in message for message in messages) == 1


def test_wrong_keys_are_not_tried_for_ever(
    database: Database, faulty: FaultyStorage, running: Lease, tmp_path: Path
) -> None:
    faulty.faults = [forbid] * 100

    publisher = publish(database, faulty, running, tmp_path / "checkpoint-5")

    assert publisher.failure is not None
    assert publisher.failure.reason.code == "storage_forbidden"
    assert len(faulty.faults) == 97
    with database.read() as session:
        assert list_checkpoints(session, running.job_id) == []


def test_a_full_storage_is_waited_for_some_time(
    database: Database, faulty: FaultyStorage, running: Lease, tmp_path: Path
) -> None:
    faulty.faults = [fill] * 100

    publisher = publish(database, faulty, running, tmp_path / "checkpoint-5")

    assert publisher.failure is not None
    assert publisher.failure.reason.code == "storage_full"


def test_a_publisher_that_breaks_is_no_published_checkpoint(
    database: Database, faulty: FaultyStorage, running: Lease, tmp_path: Path
) -> None:
    def bug(stored: StoredObject, path: Path) -> None:
        raise ZeroDivisionError

    faulty.faults = [bug]

    publisher = publish(database, faulty, running, tmp_path / "checkpoint-5")

    assert publisher.failure is not None
    assert publisher.failure.reason.code == "internal"
    assert checkpoint_events(database, running) == []


def test_an_answer_that_was_lost_doubles_nothing(
    database: Database, faulty: FaultyStorage, running: Lease, tmp_path: Path
) -> None:
    """Neither the row, nor the event, nor the lines of the log."""
    uncertain = UncertainDatabase(database.url)
    uncertain.lost_answers = 2

    publish(uncertain, faulty, running, tmp_path / "checkpoint-5")

    uncertain.close()
    assert uncertain.lost_answers == 0
    assert checkpoint_events(database, running) == [5]
    with database.read() as session:
        assert [item.step for item in list_checkpoints(session, running.job_id)] == [5]
