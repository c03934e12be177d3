"""The model card: what it says, and that nothing in a job can break out of its place in it."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from sqlalchemy.orm import Session

from tests.factories import make_job
from worker.card import Facts, draw_curves, render_card, write_card

COLUMNS = {
    "step": [1, 2, 3, 4],
    "train_loss": [4.0, 3.0, None, 1.0],
    "valid_loss": [None, 3.5, None, None],
}
SVG = "{http://www.w3.org/2000/svg}"


def _card(session: Session, **fields: Any) -> str:
    job = make_job(session, **fields)
    job.data_report = {"train": {"rows": 123}, "eval": None}
    return render_card(Facts(job, 4, {"train_loss": 1.25}, COLUMNS), job.base_model)


def _front_matter(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    values: dict[str, Any] = yaml.safe_load(front)
    return values


def test_a_card_tells_base_data_settings_metrics_and_how_to_load(session: Session) -> None:
    card = _card(session, model="Owner/Model-1B", training={"learning_rate": 0.003})

    assert _front_matter(card) == {
        "base_model": "Owner/Model-1B",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["tuneyard", "trl", "sft"],
    }
    assert '"rows": 123' in card
    assert '"learning_rate": 0.003' in card
    assert "| `train_loss` | 1.25 |" in card
    assert "![Loss by step](loss.svg)" in card
    assert 'AutoModelForCausalLM.from_pretrained("jobs/ftjob-' in card
    assert 'revision="step-4"' in card


def test_the_card_of_an_adapter_loads_its_base_first(session: Session) -> None:
    card = _card(session, model="Owner/Model-1B", peft={"r": 8})

    assert _front_matter(card)["library_name"] == "peft"
    assert 'from_pretrained("Owner/Model-1B")' in card
    assert "PeftModel.from_pretrained(base, " in card
    assert '"r": 8' in card


@pytest.mark.parametrize("path", ["owner/data", "no", "a: b", "1e3", '"\n---\nlicense: x'])
def test_names_stay_what_they_are_in_yaml(session: Session, path: str) -> None:
    job = make_job(session)
    job.spec = {"model": "local/tiny", "dataset": {"path": path}}

    card = render_card(Facts(job, 4, {}, COLUMNS), "local/tiny")

    assert _front_matter(card)["datasets"] == [path]


def test_settings_cannot_end_their_block(session: Session) -> None:
    job = make_job(session)
    job.training = {"chat": "```\n<script>"}

    card = render_card(Facts(job, 4, {}, COLUMNS), "local/tiny")

    assert "````json" in card


def test_curves_go_up_to_the_step(session: Session) -> None:
    picture = ElementTree.fromstring(draw_curves(COLUMNS, last_step=2))

    lines = [line.attrib["points"].split() for line in picture.findall(f"{SVG}polyline")]
    assert [len(points) for points in lines] == [2, 1]


def test_no_metrics_give_an_empty_picture() -> None:
    picture = ElementTree.fromstring(draw_curves({"step": []}, last_step=1))

    assert picture.findall(f"{SVG}polyline") == []


def test_long_curves_stay_small() -> None:
    steps = list(range(100_000))
    picture = draw_curves({"step": steps, "train_loss": steps}, last_step=100_000)

    assert len(picture) < 30_000


def test_an_adapters_card_names_the_base_of_its_configuration(
    session: Session, tmp_path: Path
) -> None:
    config = {"base_model_name_or_path": "Owner/Base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    job = make_job(session, peft={"r": 8})

    write_card(tmp_path, Facts(job, 4, {}, COLUMNS))

    assert _front_matter((tmp_path / "README.md").read_text())["base_model"] == "Owner/Base"
    assert (tmp_path / "loss.svg").read_text().startswith("<svg")
