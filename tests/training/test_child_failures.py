"""What goes wrong in a child reaches the user as a stable code, with the place and the fix."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import InvalidTemplate
from tests.training.conftest import OrderFactory
from tests.training.running import run_child
from worker.child.build import build_trainer
from worker.child.failure import ChildFailure, explain
from worker.child.order import Order

pytestmark = pytest.mark.training


def test_a_loss_that_is_not_finite_fails_before_the_optimizer_moves(
    make_order: OrderFactory,
) -> None:
    run = run_child(make_order(training={"learning_rate": 1e30, "max_steps": 20, "save_steps": 1}))

    assert run.exit_code == 1
    failed = run.last
    assert (failed["type"], failed["code"]) == ("failed", "non_finite_loss")
    assert failed["param"] == "training.learning_rate"
    assert f"at step {failed['step'] + 1}" in failed["message"]
    assert [m["step"] for m in run.of("checkpoint")] == list(range(1, failed["step"] + 1))
    assert not failed["retryable"]


def test_the_weights_of_a_failed_step_are_those_of_the_step_before(
    make_order: OrderFactory,
) -> None:
    order = make_order(training={"learning_rate": 1e30, "max_steps": 20, "save_steps": 1})
    trainer = build_trainer(Order.model_validate(order))

    with pytest.raises(ChildFailure, match="at step"):
        trainer.train()

    saved = load_file(
        Path(trainer.args.output_dir)
        / f"checkpoint-{trainer.state.global_step}"
        / "model.safetensors"
    )
    assert saved
    for name, tensor in trainer.model.state_dict().items():
        if name in saved:
            assert torch.equal(tensor, saved[name]), name


ROWS: dict[str, tuple[list[Any], str, str]] = {
    "nothing": ([], "invalid_training_file", "no examples"),
    "null": ([{"text": "a"}, {"text": None}], "invalid_training_file", 'Line 2: "text" is null'),
    "number": ([{"text": 3}], "invalid_training_file", "of no known shape"),
    "other columns": ([{"body": "a"}], "invalid_training_file", "the columns of the first are"),
    "array": ([["a"]], "invalid_training_file", "Line 1 is not a JSON object"),
    "no role": ([{"messages": [{"content": "a"}]}], "invalid_training_file", "role is missing"),
    "sharegpt": (
        [{"conversations": [{"from": "human", "text": "a"}]}],
        "invalid_training_file",
        "conversations[0].content is missing",
    ),
    "long prompt": (
        [{"prompt": "word " * 100, "completion": "b"}],
        "no_trained_tokens",
        "within max_length=64",
    ),
    "no completion": (
        [{"prompt": "a", "completion": None}],
        "invalid_training_file",
        "of no known shape",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_cannot_be_trained_on(
    make_order: OrderFactory, tmp_path: Path, name: str
) -> None:
    rows, code, message = ROWS[name]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    run = run_child(make_order(train={"kind": "jsonl", "path": str(path)}))

    assert (run.last["type"], run.last["code"]) == ("failed", code), run.log.decode()
    assert message in run.last["message"]
    assert run.last["param"] == "training_file"
    assert str(tmp_path) not in run.last["message"]


def test_a_bad_row_to_evaluate_on_is_named(make_order: OrderFactory, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine"}\n{"text": \n')

    run = run_child(make_order(eval={"kind": "jsonl", "path": str(path)}))

    assert run.last["code"] == "invalid_validation_file"
    assert run.last["message"].startswith("Line 2 is not JSON")


def test_a_template_that_a_row_cannot_fill_names_the_row(make_order: OrderFactory) -> None:
    run = run_child(make_order(template="{{ missing }}"))

    assert (run.last["code"], run.last["param"]) == ("invalid_template", "template")
    assert run.last["message"].startswith("Line 1")


def test_messages_need_a_chat_template(
    make_order: OrderFactory, models: Path, chat_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(models / "llama", tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    order = make_order(
        model_dir=str(tmp_path / "model"), train={"kind": "jsonl", "path": str(chat_file)}
    )

    run = run_child(order)

    assert run.last["code"] == "invalid_training_file"
    assert "no chat template" in run.last["message"]


def test_a_model_that_is_not_there(make_order: OrderFactory, tmp_path: Path) -> None:
    run = run_child(make_order(model_dir=str(tmp_path / "nothing")))

    assert (run.last["code"], run.last["param"]) == ("model_not_found", "model")


def test_a_model_without_its_weights(
    make_order: OrderFactory, models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "llama", folder)
    (folder / "model.safetensors").unlink()

    run = run_child(make_order(model_dir=str(folder)))

    assert run.last["code"] == "invalid_model", run.last
    assert str(tmp_path) not in run.last["message"]


def test_a_model_with_damaged_weights(
    make_order: OrderFactory, models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "llama", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    run = run_child(make_order(model_dir=str(folder)))

    assert run.last["code"] == "invalid_model", run.last


def test_weights_outside_of_the_model_are_refused(
    make_order: OrderFactory, models: Path, tmp_path: Path
) -> None:
    """The library loads whatever file the index names: another user's model, for instance."""
    folder = tmp_path / "model"
    shutil.copytree(models / "llama", folder)
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    run = run_child(make_order(model_dir=str(folder)))

    assert run.last["code"] == "invalid_model"
    assert "outside of its folder" in run.last["message"]


@pytest.mark.parametrize(
    "setting",
    [
        {"attn_implementation": "evil/kernel"},
        {"_attn_implementation": "evil/kernel@main:function"},
        {"text_config": {"_attn_implementation": {"": "evil/kernel"}}},
        {"experts_implementation": "evil/kernel"},
    ],
)
def test_a_model_that_names_code_to_run_is_refused(
    make_order: OrderFactory, models: Path, tmp_path: Path, setting: dict[str, Any]
) -> None:
    """The library would download it, and `trust_remote_code` has no say in it."""
    folder = tmp_path / "model"
    shutil.copytree(models / "llama", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | setting))

    run = run_child(make_order(model_dir=str(folder)))

    assert run.last["code"] == "invalid_model"
    assert "names code to be run" in run.last["message"]


def test_a_model_that_lacks_some_weights(
    make_order: OrderFactory, models: Path, tmp_path: Path
) -> None:
    """The library fills in random ones and goes on."""
    folder = tmp_path / "model"
    shutil.copytree(models / "llama", folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})

    run = run_child(make_order(model_dir=str(folder)))

    assert run.last["code"] == "invalid_model"
    assert "lacks the weights model.norm.weight" in run.last["message"]


SLOW = {"type": "Split", "pattern": {"Regex": "(x+x+)+y|([^ ]*[a-z]*)*!"}, "behavior": "Isolated"}
TOKENIZERS: dict[str, tuple[str, Any, str]] = {
    "half": ("tokenizer.json", '{"version": "1', "cannot be loaded"),
    "5,000 levels": ("tokenizer.json", '{"a":' * 5000 + "1" + "}" * 5000, "cannot be loaded"),
    "a slow pattern": ("tokenizer.json", {"pre_tokenizer": SLOW | {"invert": False}}, "fails"),
    "another class": ("tokenizer_config.json", {"tokenizer_class": "Trainer"}, "cannot be loaded"),
    "a token that is a number": ("tokenizer_config.json", {"eos_token": 7}, "cannot be loaded"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_nothing_can_use_is_named(
    make_order: OrderFactory, models: Path, tmp_path: Path, name: str
) -> None:
    """The library panics, which no `except Exception` sees, or raises what nobody expects."""
    file, change, says = TOKENIZERS[name]
    folder = tmp_path / "model"
    shutil.copytree(models / "llama", folder)
    before = json.loads((folder / file).read_text())
    after = change if isinstance(change, str) else json.dumps(before | change)
    (folder / file).write_text(after)

    run = run_child(make_order(model_dir=str(folder)))

    assert (run.last["code"], run.last["param"]) == ("invalid_model", "model")
    assert "tokenizer" in run.last["message"]
    assert says in run.last["message"]
    assert not run.last["retryable"]
    assert str(tmp_path) not in run.last["message"]


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "padding_free": ({"training": {"padding_free": True}}, "training", "padding_free"),
    "offloading": (
        {"training": {"activation_offloading": True}},
        "training.activation_offloading",
        "no GPU",
    ),
    "modules": ({"peft": {"target_modules": ["nope"]}}, "peft", "nope"),
    "quantized": ({"quantization": {"load_in_4bit": True}}, "training", "adapters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_argument_that_the_trainer_refuses(make_order: OrderFactory, name: str) -> None:
    fields, param, words = REFUSED[name]

    run = run_child(make_order(**fields))

    assert (run.last["code"], run.last["param"]) == ("invalid_argument", param)
    assert words in run.last["message"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (RuntimeError("unable to mmap 9 bytes: Cannot allocate memory (12)"), "out_of_memory"),
        (RuntimeError("std::bad_alloc"), "out_of_memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (InvalidTemplate("line 1: no"), "invalid_template"),
        (ChildFailure("no_trained_tokens", "none"), "no_trained_tokens"),
        (ZeroDivisionError(), "internal"),
    ],
)
def test_an_exception_becomes_its_code(
    make_order: OrderFactory, error: BaseException, code: str
) -> None:
    order = Order.model_validate(make_order())
    wrapped = RuntimeError("a callback failed")
    wrapped.__cause__ = error

    for phase in ("load", "train"):
        assert code in ("internal", explain(error, order, phase=phase).code)
    assert explain(error, order, phase="train").code == code
    assert explain(wrapped, order, phase="train").code == code
