"""A real server with everything that clients load, once for all tests of a session."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from app.main import create_app
from core.checkpoints import ManifestEntry, checkpoint_prefix, publish_checkpoint
from core.db import Database, database_now
from core.events import read_metrics
from core.migrate import upgrade
from core.models import Job
from core.queue import Lease
from core.settings import Settings
from core.storage import Storage
from tests.api.conftest import Site, jsonl, listening, metrics, serving
from tests.hub.tap import Tap
from worker.card import Facts, write_card

KEY = "hf_key-for-tests-0123456789"
WRONG_KEY = "hf_wrong-key-0123456789abc"
ROWS = [{"text": f"row {number}"} for number in range(20)]
ODD_NAME = "sub dir/d\u00e9j\u00e0 a+b#c%25.txt"
BIG_BYTES = 25 * 1024**2
HUGE_BYTES = 5 * 1024**3 + 16
MARK = b"the very end...."
PAGED_FILES = 1205


@dataclass(frozen=True)
class Shelf:
    """What is there, and the names to ask for it."""

    url: str
    tap: Tap
    job: str
    """A model with checkpoints of steps 2 and 4."""
    adapter: str
    """An adapter of local/tiny, with a checkpoint of step 2."""
    bulk: str
    """Files that are large, many, or oddly named."""
    commits: dict[int, str]
    """Of the job, by step."""
    digests: dict[int, dict[str, str]]
    """SHA-256 of what the job's checkpoints hold, by step and path."""
    big_digest: str
    files: dict[str, str]
    """Datasets by format."""

    def environment(self, home: Path) -> dict[str, str]:
        """Variables of a client that knows nothing but this server."""
        return {
            "HF_ENDPOINT": f"{self.url}/hf",
            "HF_TOKEN": KEY,
            "HF_HOME": str(home),
            "HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONWARNINGS": "ignore",
        }


@contextmanager
def stocked_shelf(home: Path, models: dict[str, Path]) -> Iterator[Shelf]:
    """A server with jobs of these folders: whole-2, whole-4, adapter-2; and the root of models."""
    settings = Settings(TUNEYARD_HOME=home, MODEL_ROOTS=(models["root"],), TUNEYARD_API_KEY=KEY)
    database = Database(settings.database_url)
    upgrade(database)
    with serving(settings, database, authorization=f"Bearer {KEY}") as site:
        lease = site.start()
        commits, digests = {}, {}
        for step in (2, 4):
            site.record(lease, metrics(step, train_loss=4.0 / step))
            entries = _publish_folder(site, lease, step, models[f"whole-{step}"])
            digests[step] = {entry.path: entry.sha256 for entry in entries}
            commits[step] = _publish(site.database, lease, step, entries)
        adapter = site.start(peft={"r": 4})
        _publish(database, adapter, 2, _publish_folder(site, adapter, 2, models["adapter-2"]))
        bulk = site.start()
        entries = _bulk_files(site.storage, bulk)
        _publish(database, bulk, 1, entries)
        tap = Tap(create_app(settings))
        with listening(tap) as url:
            yield Shelf(
                url=url,
                tap=tap,
                job=f"jobs/{lease.job_id}",
                adapter=f"jobs/{adapter.job_id}",
                bulk=f"jobs/{bulk.job_id}",
                commits=commits,
                digests=digests,
                big_digest=entries[0].sha256,
                files={name: f"files/{file_id}" for name, file_id in _upload_files(site).items()},
            )
    database.close()


def _publish_folder(site: Site, lease: Lease, step: int, folder: Path) -> list[ManifestEntry]:
    with site.database.read() as session:
        job = session.get_one(Job, lease.job_id)
        columns = read_metrics(session, job.id)
        write_card(folder, Facts(job, step, {"train_loss": 4.0 / step}, columns))
    prefix = checkpoint_prefix(lease.job_id, lease.attempt, step)
    entries = []
    for path in sorted(folder.iterdir()):
        stored = site.storage.put_file(f"{prefix}/{path.name}", path)
        entries.append(ManifestEntry(path.name, stored.size, stored.sha256, "weights"))
    return entries


def _publish(database: Database, lease: Lease, step: int, entries: list[ManifestEntry]) -> str:
    with database.write() as session:
        return publish_checkpoint(
            session,
            lease,
            step=step,
            manifest=entries,
            metrics={},
            now=database_now(session),
        ).revision


def _bulk_files(storage: Storage, lease: Lease) -> list[ManifestEntry]:
    prefix = checkpoint_prefix(lease.job_id, lease.attempt, 1)
    big = os.urandom(1024) * (BIG_BYTES // 1024)
    stored = storage.put_stream(f"{prefix}/big.safetensors", [big])
    entries = [ManifestEntry("big.safetensors", stored.size, stored.sha256, "weights")]
    path = storage.local_path(f"{prefix}/huge.safetensors")
    assert path is not None
    with path.open("wb") as file:
        file.truncate(HUGE_BYTES - len(MARK))
        file.seek(0, os.SEEK_END)
        file.write(MARK)
    # Nobody downloads it whole, and hashing 5 GB would take longer than all these tests.
    entries.append(ManifestEntry("huge.safetensors", HUGE_BYTES, "5" * 64, "weights"))
    odd = storage.put_stream(f"{prefix}/{ODD_NAME}", [b"odd"])
    entries.append(ManifestEntry(ODD_NAME, odd.size, odd.sha256, "weights"))
    empty = hashlib.sha256(b"").hexdigest()
    many = (f"many/{number:04}.txt" for number in range(PAGED_FILES))
    return entries + [ManifestEntry(name, 0, empty, "weights") for name in many]


def _upload_files(site: Site) -> dict[str, str]:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), sink)
    return {
        "jsonl": site.upload(jsonl(*ROWS)),
        "parquet": site.upload(sink.getvalue().to_pybytes(), name="rows.parquet"),
        "csv": site.upload(b"text\n" + b"".join(b"row %d\n" % n for n in range(20)), name="r.csv"),
        "json": site.upload(json.dumps(ROWS).encode(), name="rows.json"),
    }
