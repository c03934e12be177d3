"""What leaves this machine: complete, loadable without code, and silent about the machine."""

import json
import pickletools
import socket
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from core.checkpoints import entries, get_checkpoint
from core.columns import Base
from core.db import DEFAULT_PROJECT, database_now
from core.models import File
from core.results import PURPOSE
from core.settings import Settings
from core.webhooks import EVENT_TYPES, create_endpoint
from tests.worker.conftest import Bench

pytestmark = pytest.mark.training

TOKEN = "hf_canary-0123456789"
KEY = "key-canary-0123456789"
SECRET = "s3-canary-0123456789"
CARD = {"README.md", "loss.svg"}
TOKENIZER = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
WHOLE = {"config.json", "generation_config.json", "model.safetensors"} | TOKENIZER | CARD
ADAPTER = {"adapter_config.json", "adapter_model.safetensors"} | TOKENIZER | CARD
LORA = {"r": 4, "target_modules": "all-linear"}


def _published(bench: Bench, **body: Any) -> dict[str, bytes]:
    """What a job of two steps leaves to take home, by path."""
    job = bench.submit(training={"max_steps": 2}, **body)
    runtime = bench.runtime()
    runtime.work()
    runtime.join()
    with bench.database.read() as session:
        checkpoint = get_checkpoint(session, job.id, 2)
    return {
        entry.path: b"".join(bench.storage.read(f"{checkpoint.prefix}/{entry.path}"))
        for entry in entries(checkpoint, "weights")
    }


def _canaries(settings: Settings) -> dict[str, str]:
    """Everything that only this machine and its operator know."""
    found = {
        "token": TOKEN,
        "key": KEY,
        "secret": SECRET,
        "home": str(settings.home),
        "user": str(Path.home()),
    }
    found |= {"scratch": str(settings.scratch_folder), "models": str(settings.model_roots[0])}
    found |= {"package": str(Path(__file__).parents[2]), "host": socket.gethostname()}
    return {name: value for name, value in found.items() if len(value) > 4}


def _listen(bench: Bench) -> None:
    """Have webhooks written, which nobody sends."""
    with bench.database.write() as session:
        create_endpoint(
            session,
            name="a",
            url="https://receiver.invalid/",
            event_types=EVENT_TYPES,
            now=database_now(session),
            project_id=DEFAULT_PROJECT,
        )


def _told(bench: Bench) -> dict[str, str]:
    """What callers are told: rows of the database by table, and the files of results."""
    told = {}
    with bench.database.read() as session:
        for table in Base.metadata.sorted_tables:
            rows = session.execute(select(table)).all()
            # A worker tells its operator where it is.
            if rows and table.name != "workers":
                told[table.name] = repr(rows)
        results = select(File.storage_key).where(File.purpose == PURPOSE)
        for key in session.scalars(results):
            told[key] = b"".join(bench.storage.read(key)).decode()
    return told


def _is_pickle(content: bytes) -> bool:
    if content[:2] == b"PK":
        return True
    try:
        return content[:1] == b"\x80" and any(pickletools.genops(content))
    except (ValueError, TypeError):
        return False


@pytest.mark.parametrize(("peft", "names"), [(None, WHOLE), (LORA, ADAPTER)])
def test_what_is_published_is_complete_and_clean(
    bench: Bench, peft: dict[str, Any] | None, names: set[str]
) -> None:
    secrets = {"hf_token": TOKEN, "api_key": KEY, "s3_secret_key": SECRET}
    bench.settings = bench.settings.model_copy(update=secrets)
    _listen(bench)

    files = _published(bench, peft=peft)

    assert files.keys() == names
    for path, content in files.items():
        assert not _is_pickle(content), path
        told = [
            name for name, value in _canaries(bench.settings).items() if value.encode() in content
        ]
        assert told == [], path
    told = _told(bench)
    assert {"events", "jobs", "webhook_deliveries"} <= told.keys()
    for what, text in told.items():
        names_told = [name for name, value in _canaries(bench.settings).items() if value in text]
        assert names_told == [], what
    if peft is not None:
        config = json.loads(files["adapter_config.json"])
        assert config["base_model_name_or_path"] == "local/tiny-opt"
    card = files["README.md"].decode()
    assert '"rows": 200' in card
    assert "local/tiny-opt" in card
    assert files["loss.svg"].count(b"<polyline") == 1
