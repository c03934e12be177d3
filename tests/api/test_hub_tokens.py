"""The token report and the plan of a Hub's model, whose small files the API fetches itself."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from httpx import Response

from core.db import Database
from core.settings import Settings
from examples.tiny_model import make_tiny_model
from tests.api.conftest import JOBS, Site, changed, jsonl, problem_of, serving
from tests.api.test_tokens import CHAT, TOKENS
from tests.factories import NOWHERE
from tests.servers.hub import FakeHub, running_hub

pytestmark = pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)

PLAN = "/v1/fine_tuning/plan"
NAME = "acme/tiny-llama"
TOKEN = "hf_canary_token"


@dataclass
class HubSite:
    """A server beside a Hub that has one whole model, and the same model in a local folder."""

    site: Site
    hub: FakeHub
    repository: Path

    def ask(self, model: str, *, path: str = TOKENS, **body: Any) -> Response:
        """Post a body about the chat file."""
        file_id = self.site.upload(jsonl(*CHAT))
        answer: Response = self.site.client.post(
            path, json={"model": model, "training_file": file_id, **body}
        )
        return answer


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a real tokenizer."""
    folder = tmp_path_factory.mktemp("shelf") / "tiny-llama"
    make_tiny_model("llama", folder)
    return folder


@pytest.fixture
def hub_site(
    api_settings: Settings, database: Database, tmp_path: Path, shelf: Path
) -> Iterator[HubSite]:
    repository = tmp_path / "hub" / "models" / NAME
    shutil.copytree(shelf, repository)
    with running_hub(tmp_path / "hub") as (hub, url):
        settings = changed(
            api_settings, hf_endpoint=url, hf_token=TOKEN, model_roots=(shelf.parent,)
        )
        with serving(settings, database) as site:
            yield HubSite(site, hub, repository)


def test_a_hub_model_is_counted_as_the_same_model_here(hub_site: HubSite) -> None:
    training = {"assistant_only_loss": True}

    answer = hub_site.ask(NAME, training=training)

    assert answer.status_code == 200, answer.text
    assert answer.json() == hub_site.ask("local/tiny-llama", training=training).json()
    assert hub_site.hub.tokens == {f"Bearer {TOKEN}"}


def test_a_tokenizer_is_fetched_once_for_each_commit(hub_site: HubSite) -> None:
    def fetched() -> int:
        hub_site.hub.asked.clear()
        assert hub_site.ask(NAME).status_code == 200
        return sum("/resolve/" in path for path in hub_site.hub.asked)

    first, again = fetched(), fetched()
    (hub_site.repository / "README.md").write_text("another commit")
    later = fetched()

    assert (first > 0, again, later) == (True, 0, first)


def test_special_tokens_of_an_older_model_and_named_templates_are_found(
    hub_site: HubSite,
) -> None:
    expected = hub_site.ask(NAME).json()
    path = hub_site.repository / "tokenizer_config.json"
    config = json.loads(path.read_text())
    template = hub_site.repository / "chat_template.jinja"
    named = [{"name": "default", "template": template.read_text()}]
    template.unlink()
    special = {"eos_token": config.pop("eos_token")}
    (hub_site.repository / "special_tokens_map.json").write_text(json.dumps(special))
    path.write_text(json.dumps(config | {"chat_template": named}))

    assert hub_site.ask(NAME).json() == expected


def test_a_model_that_the_hub_does_not_have(hub_site: HubSite) -> None:
    for path in (TOKENS, PLAN):
        error = problem_of(hub_site.ask("acme/absent", path=path), 404)

        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert "acme/absent" in error["message"]


def test_a_gated_model_says_what_to_do(hub_site: HubSite) -> None:
    hub_site.hub.gated.add(NAME)

    for path in (TOKENS, PLAN):
        error = problem_of(hub_site.ask(NAME, path=path), 404)

        assert error["param"] == "model"
        assert "HF_TOKEN" in error["message"]


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("tokenizer.json", None, "no tokenizer.json"),
        ("tokenizer.json", b"{", "cannot be read"),
        ("tokenizer_config.json", b"[1]", "cannot be read"),
        ("chat_template.jinja", b"\xff\xfe", "cannot be read"),
        ("chat_template.jinja", b"x" * (1024**2 + 1), "more than 1,048,576 bytes"),
    ],
)
def test_a_tokenizer_that_cannot_be_used(
    hub_site: HubSite, path: str, content: bytes | None, words: str
) -> None:
    if content is None:
        (hub_site.repository / path).unlink()
    else:
        (hub_site.repository / path).write_bytes(content)

    error = problem_of(hub_site.ask(NAME), 400)

    assert error["param"] == "model"
    assert words in error["message"]


def test_every_job_on_a_hub_model_has_a_plan(hub_site: HubSite) -> None:
    training = {"max_steps": 2, "per_device_train_batch_size": 4}

    job = hub_site.ask(NAME, path=JOBS, training=training).json()
    too_long = hub_site.ask(NAME, path=JOBS, training={"max_length": 4096})

    assert job["plan"]["peak_memory_bytes"] > 0
    assert problem_of(too_long, 400)["param"] == "training.max_length"


def test_a_hub_that_is_away(api_settings: Settings, database: Database) -> None:
    with serving(changed(api_settings, hf_endpoint=NOWHERE), database) as site:
        body = {"model": NAME, "training_file": site.upload()}

        for path in (TOKENS, PLAN):
            error = problem_of(site.client.post(path, json=body), 503)

            assert error["param"] == "model"
            assert NAME in error["message"]
        job = site.client.post(JOBS, json=body).json()
        assert (job["status"], job["plan"]) == ("queued", None)
