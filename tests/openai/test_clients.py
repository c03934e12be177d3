"""Stock clients of OpenAI, unchanged but for the address, the key and the model: every call works.

Other versions than the installed one are fetched once and kept.
"""

import re
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from core.db import Database, database_now
from core.events import read_metrics
from core.migrate import upgrade
from core.queue import succeed_attempt
from core.results import store_results
from core.settings import Settings
from core.webhooks import EVENT_TYPES, signature
from tests.api.conftest import ROWS, Site, listening, metrics, serving
from tests.hub.clients import node_client, node_tool, python_client, run_probe
from tests.servers.receiver import receiving

PROBES = Path(__file__).parent / "probes"
INSTALLED = "installed"
OLDER = ("2.54.0", "1.109.1")
NODE = "7.57.0"
KEY = "sk-tests-0123456789abcdef"
SECRET = "whsec_c29tZSBzZWNyZXQgb2YgdGhlIHRlc3Rz"
PERMISSIONS = "fine_tuning.checkpoints.permissions"
GRADERS = "fine_tuning.alpha.graders"


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Stage"]:
    """The server that all clients talk to."""
    home = tmp_path_factory.mktemp("stage")
    folder = home / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    settings = Settings(
        TUNEYARD_HOME=home,
        MODEL_ROOTS=(folder.parent,),
        TUNEYARD_API_KEY=KEY,
        EGRESS_ALLOW=(ip_network("127.0.0.0/8"),),
    )
    database = Database(settings.database_url)
    upgrade(database)
    with (
        serving(settings, database, authorization=f"Bearer {KEY}") as site,
        listening(create_app(settings)) as url,
        receiving() as receiver,
    ):
        yield Stage(site, url, receiver.url)
    database.close()


class Stage:
    """A server, and what each client finds on it."""

    def __init__(self, site: Site, url: str, receiver: str):
        self.site = site
        self.url = url
        self.receiver = receiver

    def plan(self, team: str, *, strict: bool = False) -> dict[str, Any]:
        """Jobs of this client's own that have ended, and a signed event."""
        with self.site.database.read() as session:
            timestamp = int(database_now(session).timestamp())
        body = '{"id":"evt_1","object":"event","created_at":1,"type":"%s","data":{"id":"ftjob-1"}}'
        body %= EVENT_TYPES[0]
        headers = {
            "webhook-id": "evt_1",
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(SECRET, "evt_1", timestamp, body.encode()),
        }
        return {
            "url": self.url,
            "key": KEY,
            "team": team,
            "strict": strict,
            "rows": ROWS.decode(),
            "model": "local/tiny",
            "done": self._done_job(),
            "doomed": f"jobs/{self._done_job()}",
            "receiver": self.receiver,
            "signed": {"body": body, "headers": headers, "secret": SECRET},
            "wandb": {"type": "wandb", "wandb": {"project": "p"}},
        }

    def _done_job(self) -> str:
        site, lease = self.site, self.site.start(priority=100)
        for step in (1, 2):
            site.record(lease, metrics(step, train_loss=4.0 / step))
            site.publish(lease, step, {"model.safetensors": b"weights"})
        with site.database.read() as session:
            results = store_results(site.storage, read_metrics(session, lease.job_id))
        with site.database.write() as session:
            now = database_now(session)
            succeed_attempt(
                session, lease, now=now, trained_tokens=7, peak_memory_bytes=None, results=results
            )
        return lease.job_id


def _run_python(stage: Stage, home: Path, version: str, *, strict: bool) -> dict[str, Any]:
    environment = {"HOME": str(home), "PYTHONWARNINGS": "ignore"}
    if version != INSTALLED:
        environment["PYTHONPATH"] = str(python_client("openai", version))
    plan = stage.plan(f"{version}-{strict}", strict=strict)
    found = run_probe([sys.executable, str(PROBES / "openai_client.py")], plan, environment)
    assert version in (INSTALLED, found["version"])
    return found | {"plan": plan}


@pytest.fixture(scope="session", params=[INSTALLED, *OLDER, "node"])
def found(
    request: pytest.FixtureRequest, stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a client got from the server; its calls by their names in Python."""
    home = tmp_path_factory.mktemp("client")
    if request.param != "node":
        return _run_python(stage, home, request.param, strict=False)
    plan = stage.plan("node") | {"modules": str(node_client("openai", NODE))}
    command = [node_tool("node"), str(PROBES / "openai.mjs")]
    found = run_probe(command, plan, {"HOME": str(home)})
    assert found["version"] == NODE
    results = {_in_python(name): result for name, result in found["results"].items()}
    surface = [_in_python(name) for name in found["surface"]]
    return {"surface": surface, "results": results, "plan": plan}


def _in_python(name: str) -> str:
    return re.sub(r"(?<=[a-z])[A-Z]", lambda match: f"_{match[0].lower()}", name)


def _expected(plan: dict[str, Any]) -> dict[str, Any]:
    """What every client gets of what it asks for; errors by status, code and parameter."""
    return {
        "files.create": ["file", len(ROWS), "processed", "fine-tune"],
        "expires_at": 3600,
        "files.retrieve": True,
        "files.list": True,
        "files.content": True,
        "files.retrieve_content": True,
        "files.wait_for_processing": "processed",
        "streamed": True,
        "files.delete": True,
        "uploads.create": ["pending", 3600],
        "uploads.parts.create": ["upload.part", "upload.part"],
        "uploads.complete": ["completed", len(ROWS), "processed"],
        "uploads.cancel": "cancelled",
        "uploads.upload_file_chunked": True,
        "fine_tuning.jobs.create": ["queued", 7, "fine_tuning.job", {"team": plan["team"]}],
        "extra_body": {"r": 4},
        "fine_tuning.jobs.retrieve": True,
        "fine_tuning.jobs.pause": "paused",
        "fine_tuning.jobs.resume": "queued",
        "fine_tuning.jobs.cancel": "cancelled",
        "fine_tuning.jobs.list": True,
        "idempotent": True,
        "done": ["succeeded", f"jobs/{plan['done']}", 7],
        "results": "step,train_loss\n1,4.0\n2,2.0\n",
        "result_file": True,
        "metrics": [2.0, 4.0],
        "fine_tuning.jobs.checkpoints.list": [2, 1],
        f"{PERMISSIONS}.create": ["proj_b", "proj_c"],
        f"{PERMISSIONS}.list": ["proj_b", "proj_c"],
        f"{PERMISSIONS}.retrieve": ["proj_c"],
        f"{PERMISSIONS}.delete": [True, True],
        "models.list": [True, True],
        "models.retrieve": True,
        "models.delete": True,
        "webhooks.unwrap": [EVENT_TYPES[0], "ftjob-1"],
        "webhooks.verify_signature": None,
        "webhooks.event_types.list": list(EVENT_TYPES),
        "webhooks.create": "whsec_",
        "webhooks.retrieve": True,
        "webhooks.list": True,
        "webhooks.update": "other",
        "webhooks.rotate_secret": True,
        "webhooks.test": [200, True],
        "webhooks.delete": True,
        "request_id": True,
    }


ERRORS = {
    "deleted_file": ("NotFoundError", 404, "file_not_found", "file_id"),
    "bad_rows": ("BadRequestError", 400, "invalid_file", "file"),
    "expired_part": ("BadRequestError", 400, "invalid_state", "upload_id"),
    "conflict": ("ConflictError", 409, "idempotency_conflict", None),
    "bad_argument": ("BadRequestError", 400, "unknown_argument", "training.learning_rat"),
    "bad_state": ("BadRequestError", 400, "invalid_state", None),
    "integration": ("BadRequestError", 400, "invalid_argument", "integrations"),
    "no_method": ("BadRequestError", 400, "invalid_argument", "method.type"),
    "deleted_model": ("NotFoundError", 404, "model_not_found", "model"),
    "operators_model": ("PermissionDeniedError", 403, "insufficient_scope", "model"),
    f"{GRADERS}.run": ("NotFoundError", 404, "not_found", None),
    f"{GRADERS}.validate": ("NotFoundError", 404, "not_found", None),
    "wrong_key": ("AuthenticationError", 401, "invalid_api_key", None),
    "no_job": ("NotFoundError", 404, "job_not_found", "fine_tuning_job_id"),
}


def test_every_call_of_the_client_is_made(found: dict[str, Any]) -> None:
    assert set(found["surface"]) <= set(found["results"])
    assert len(found["surface"]) > 20


def test_every_call_gets_what_it_asks_for(found: dict[str, Any]) -> None:
    expected = _expected(found["plan"])
    results = {name: found["results"][name] for name in expected if name in found["results"]}

    assert results == {name: expected[name] for name in results}
    assert set(found["results"]) <= {*expected, *ERRORS, "fine_tuning.jobs.list_events", "forged"}


def test_every_error_is_the_clients_own(found: dict[str, Any]) -> None:
    errors = {name: found["results"][name] for name in ERRORS if name in found["results"]}

    assert len(errors) >= len(ERRORS) - 1
    for name, error in errors.items():
        told = (error["error"], error["status"], error["code"], error["param"])
        assert told == ERRORS[name], name
        assert error["request_id"], name


def test_events_are_told_newest_first(found: dict[str, Any]) -> None:
    messages = found["results"]["fine_tuning.jobs.list_events"]

    assert messages[0] == "The job has successfully completed"
    assert messages[-1].startswith("Created fine-tuning job: ")
    assert len(messages) == 7


def test_a_forged_event_is_no_event(found: dict[str, Any]) -> None:
    assert found["results"]["forged"]["error"] == "InvalidWebhookSignatureError"


@pytest.mark.parametrize("version", [INSTALLED, *OLDER])
def test_strict_validation_finds_nothing_but_what_is_documented(
    stage: Stage, tmp_path: Path, version: str
) -> None:
    """The client's own types have no `paused`, though its own call leads there."""
    found = _run_python(stage, tmp_path, version, strict=True)

    expected = _expected(found["plan"]) | {"fine_tuning.jobs.pause": "APIResponseValidationError"}
    results = {name: found["results"][name] for name in expected if name in found["results"]}
    results["fine_tuning.jobs.pause"] = results["fine_tuning.jobs.pause"]["error"]
    assert results == {name: expected[name] for name in results}
