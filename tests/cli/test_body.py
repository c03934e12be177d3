"""What a command line becomes: the body of a job."""

from pathlib import Path
from typing import Any

import pytest

from app.schemas import JobObject
from cli import body as bodies
from cli.body import JobOptions, job_body, parse_bytes
from cli.errors import Exit, UserError
from core.spec import JobSpec

CLONED = {"model": "local/old", "training_file": "file-1", "training": {"max_steps": 5}, "seed": 1}


def test_options_become_the_fields_of_the_api(tmp_path: Path) -> None:
    (tmp_path / "row.jinja").write_text("{{ q }}")
    options = JobOptions(
        name="faq",
        dataset="org/data:train[:10]",
        template=f"@{tmp_path / 'row.jinja'}",
        lora_rank=8,
        effective_batch=32,
        micro_batch=4,
        epochs=2.0,
        memory="20GiB",
        sample_prompt=["Hello?"],
        settings=["max_length=128"],
    )

    body = job_body(options, ["org/model", "--learning_rate", "2e-4", "--lr-scheduler-type=cosine"])

    assert body == {
        "model": "org/model",
        "suffix": "faq",
        "dataset": {"path": "org/data", "split": "train[:10]"},
        "template": "{{ q }}",
        "peft": {"r": 8, "target_modules": "all-linear"},
        "effective_batch_size": 32,
        "resources": {"memory": 20 * 1024**3},
        "sample_prompts": ["Hello?"],
        "training": {
            "max_length": 128,
            "learning_rate": 2e-4,
            "lr_scheduler_type": "cosine",
            "num_train_epochs": 2.0,
            "per_device_train_batch_size": 4,
        },
    }


def test_what_is_said_goes_over_what_is_cloned() -> None:
    body = job_body(JobOptions(max_steps=9), ["--seed", "2"], CLONED)

    assert body["training"] == {"max_steps": 9}
    assert (body["model"], body["seed"]) == ("local/old", 2)
    assert CLONED["training"] == {"max_steps": 5}


def test_a_clone_leaves_out_nothing_that_was_asked_for() -> None:
    """A new field of a request must be in the job that it makes, and in the clone of that."""
    told_otherwise = {"method", "hyperparameters", "integrations", "effective_batch_size", "suffix"}
    asked = set(JobSpec.model_fields) - told_otherwise

    assert asked <= set(JobObject.model_fields)
    assert set(bodies.CLONED) == asked


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("job.json", '{"model": "local/x", "training": {"max_steps": 3}}'),
        ("job.yaml", "model: local/x\ntraining: {max_steps: 3}\n"),
    ],
)
def test_a_body_comes_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    body = job_body(JobOptions(from_file=tmp_path / name), ["--packing", "true"])

    assert body == {"model": "local/x", "training": {"max_steps": 3, "packing": True}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Which model"),
        (["m", "stray"], "What is 'stray' for"),
        (["m", "--wacth"], "There is no option --wacth"),
        (["m", "--learning_rate", "--packing"], "There is no option --learning_rate"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        job_body(JobOptions(), words)

    assert caught.value.code is Exit.USAGE
    if "wacth" in said:
        assert caught.value.hint == "Did you mean --watch?"


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_file_that_is_no_body_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.json").write_text(text)

    with pytest.raises(UserError, match=r"job\.json"):
        job_body(JobOptions(from_file=tmp_path / "job.json"), [])


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GiB", 20 * 1024**3), ("1.5 GB", 1_500_000_000), ("4g", 4 * 1000**3), ("123", 123)],
)
def test_sizes(text: str, size: Any) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "20 cats", "-1GB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UserError, match="no size"):
        parse_bytes(text)
