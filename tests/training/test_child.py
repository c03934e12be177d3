"""One training child: what it says, how it stops, how it dies, and what it leaves behind."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import OrderFactory
from tests.training.running import ChildRun, Message, publish, run_child
from worker.forkserver import ChildHandle, start_child

pytestmark = pytest.mark.training

LORA = {"r": 4, "target_modules": "all-linear", "lora_dropout": 0.1}


def digest(run: ChildRun, name: str) -> str:
    """Hash of a file in the last checkpoint of a run."""
    return hashlib.sha256((last_checkpoint(run) / name).read_bytes()).hexdigest()


def last_checkpoint(run: ChildRun) -> Path:
    return Path(run.of("checkpoint")[-1]["path"])


def test_a_run_tells_its_phases_data_metrics_and_checkpoints(make_order: OrderFactory) -> None:
    run = run_child(make_order())

    assert run.exit_code == 0, run.log.decode()
    phases = [message["phase"] for message in run.of("phase")]
    assert phases[:3] == ["load", "data", "train"]
    assert phases[-2:] == ["save", "train"]
    report = run.of("data_report")[0]
    assert report["eval"] is None
    assert report["train"]["rows"] == report["train"]["rows_used"] == 200
    assert 0 < report["train"]["trained_tokens"] < report["train"]["tokens"]
    resolved = run.of("resolved")[0]
    assert resolved["total_steps"] == 6
    assert resolved["trainable_parameters"] == resolved["total_parameters"] > 100_000
    assert resolved["training"]["weight_decay"] == 0
    assert list(run.metric("train_loss")) == [1, 2, 3, 4, 5, 6]
    assert {"grad_norm", "learning_rate", "train_mean_token_accuracy", "epoch"} <= set(
        run.of("metrics")[0]["data"]
    )
    assert all(message["memory_bytes"] > 100_000_000 for message in run.of("metrics"))
    assert [message["step"] for message in run.of("checkpoint")] == [3, 6]
    assert run.of("checkpoint")[0]["metrics"]["train_loss"] == run.metric("train_loss")[3]
    assert run.of("progress")[-1] == {"type": "progress", "step": 6, "total_steps": 6}
    finished = run.last
    assert finished["type"] == "finished"
    assert (finished["step"], finished["total_steps"], finished["stopped"]) == (6, 6, False)
    assert finished["peak_memory_bytes"] > 100_000_000


def test_an_evaluation_gives_the_validation_metrics(
    make_order: OrderFactory, eval_file: Path
) -> None:
    order = make_order(eval={"kind": "jsonl", "path": str(eval_file)}, training={"eval_steps": 3})

    run = run_child(order)

    assert list(run.metric("valid_loss")) == [3, 6]
    assert "valid_mean_token_accuracy" in run.of("metrics")[-1]["data"]
    assert run.of("checkpoint")[-1]["metrics"]["valid_loss"] == run.metric("valid_loss")[6]
    assert run.of("data_report")[0]["eval"]["rows"] == 10


@pytest.mark.parametrize("strategy", ["no", "epoch", "steps", "best"])
def test_the_last_step_leaves_one_checkpoint(make_order: OrderFactory, strategy: str) -> None:
    training: dict[str, Any] = {"save_strategy": strategy, "save_steps": 100, "max_steps": 2}

    run = run_child(make_order(training=training))

    assert [message["step"] for message in run.of("checkpoint")] == [2]


def kill_at(step: int) -> Any:
    def react(child: ChildHandle, message: Message) -> None:
        publish(child, message)
        if message["type"] == "checkpoint" and message["step"] == step:
            child.kill()

    return react


@pytest.mark.parametrize(
    ("family", "peft", "weights"),
    [("llama", None, "model.safetensors"), ("opt", LORA, "adapter_model.safetensors")],
)
@pytest.mark.parametrize("logging_steps", [1, 2])
def test_a_killed_run_resumes_as_if_nothing_had_happened(
    make_order: OrderFactory, family: str, peft: Any, weights: str, logging_steps: int
) -> None:
    """Both resumed losses and the final weights equal those of a run that was left alone."""
    training = {"logging_steps": logging_steps}
    whole = run_child(make_order(family, peft=peft, training=training))

    killed = run_child(make_order(family, peft=peft, training=training), react=kill_at(3))
    assert killed.exit_code == -9
    resume_from = str(last_checkpoint(killed))
    resumed = run_child(make_order(family, peft=peft, training=training, resume_from=resume_from))

    assert resumed.exit_code == 0, resumed.log.decode()
    for name in ("train_loss", "grad_norm", "num_tokens", "train_mean_token_accuracy", "epoch"):
        expected = {step: value for step, value in whole.metric(name).items() if step > 3}
        assert resumed.metric(name) == expected, name
    assert digest(resumed, weights) == digest(whole, weights)


def test_a_stop_ends_at_a_step_boundary_and_resumes_exactly(make_order: OrderFactory) -> None:
    def stop(child: ChildHandle, message: Message) -> None:
        publish(child, message)
        if message["type"] == "metrics" and message["step"] == 1:
            child.send({"type": "stop", "save": True})

    training = {"save_strategy": "no", "max_steps": 200, "learning_rate": 1e-4}
    stopped = run_child(make_order("opt", training=training), react=stop)
    step = stopped.last["step"]
    assert stopped.exit_code == 0
    assert stopped.last["stopped"]
    assert 1 <= step < 200
    assert [message["step"] for message in stopped.of("checkpoint")] == [step]

    training["max_steps"] = 200
    resume_from = str(last_checkpoint(stopped))
    again = run_child(
        make_order("opt", training=training, resume_from=resume_from), react=_stop_at(step + 3)
    )
    whole = run_child(make_order("opt", training=training), react=_stop_at(step + 3))
    steps = range(step + 1, step + 4)
    expected = [whole.metric("train_loss")[number] for number in steps]
    assert [again.metric("train_loss")[number] for number in steps] == expected


def _stop_at(step: int) -> Any:
    def react(child: ChildHandle, message: Message) -> None:
        if message["type"] == "metrics" and message["step"] == step:
            child.kill()

    return react


def test_a_stop_without_saving_leaves_no_checkpoint(make_order: OrderFactory) -> None:
    def stop(child: ChildHandle, message: Message) -> None:
        if message["type"] == "metrics" and message["step"] == 1:
            child.send({"type": "stop", "save": False})

    training = {"save_strategy": "no", "max_steps": 500}

    run = run_child(make_order(training=training), react=stop)

    assert run.last["type"] == "finished"
    assert run.last["stopped"]
    assert run.of("checkpoint") == []


def test_a_stop_before_the_first_step_trains_nothing(make_order: OrderFactory) -> None:
    def stop(child: ChildHandle, message: Message) -> None:
        if message == {"type": "phase", "phase": "load"}:
            child.send({"type": "stop", "save": True})

    run = run_child(make_order(), react=stop)

    assert run.last["type"] == "finished"
    assert (run.last["step"], run.last["total_steps"], run.last["stopped"]) == (0, 6, True)


def test_a_run_resumed_at_its_last_step_is_finished(make_order: OrderFactory) -> None:
    whole = run_child(make_order())

    again = run_child(make_order(resume_from=str(last_checkpoint(whole))))

    assert (again.last["type"], again.last["step"], again.last["stopped"]) == ("finished", 6, False)
    assert again.of("metrics") == []


def test_at_most_two_checkpoints_wait_to_be_published(make_order: OrderFactory) -> None:
    waiting: list[int] = []

    def publish_late(child: ChildHandle, message: Message) -> None:
        if message["type"] != "checkpoint":
            return
        waiting.append(message["step"])
        assert len(waiting) <= 2
        if len(waiting) == 2:
            child.send({"type": "published", "step": waiting.pop(0)})

    run = run_child(make_order(training={"save_steps": 1}), react=publish_late)

    assert [message["step"] for message in run.of("checkpoint")] == [1, 2, 3, 4, 5, 6]


def test_a_child_dies_when_its_supervisor_is_gone(make_order: OrderFactory) -> None:
    child = start_child(make_order(training={"max_steps": 100_000}))
    while child.receive()["type"] != "metrics":
        child.send({"type": "tick"})

    child.control.close()

    child.process.join(timeout=60)
    assert child.process.exitcode == 75
    child.log.close()


def test_a_child_dies_when_its_supervisor_is_silent(make_order: OrderFactory) -> None:
    child = start_child(make_order(training={"max_steps": 100_000}, lease_seconds=0.5))

    with pytest.raises((EOFError, OSError)):  # noqa: PT012 - reading until the end is the act
        while True:
            child.receive()

    child.process.join()
    assert child.process.exitcode == 75
    child.close()


def test_a_checkpoint_holds_nothing_about_this_machine(make_order: OrderFactory) -> None:
    order = make_order("opt", peft=LORA, training={"max_steps": 1})

    folder = last_checkpoint(run_child(order))

    assert not (folder / "training_args.bin").exists()
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tests/opt"
    for file in folder.iterdir():
        content = file.read_bytes()
        assert str(order["model_dir"]).encode() not in content, file.name
        assert str(order["scratch"]).encode() not in content, file.name


def test_an_adapter_can_be_trained_on(make_order: OrderFactory) -> None:
    first = run_child(make_order("opt", peft=LORA))

    second = run_child(make_order("opt", adapter_dir=str(last_checkpoint(first))))

    assert second.exit_code == 0, second.log.decode()
    resolved = second.of("resolved")[0]
    assert 0 < resolved["trainable_parameters"] < resolved["total_parameters"] / 2
    assert second.metric("train_loss")[1] < first.metric("train_loss")[1]


@pytest.mark.parametrize("damage", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_without_its_state_is_refused(make_order: OrderFactory, damage: str) -> None:
    """The trainer alone would begin again with a fresh optimizer and say nothing."""
    whole = run_child(make_order(training={"max_steps": 1}))
    folder = last_checkpoint(whole)
    (folder / damage).unlink()

    run = run_child(make_order(resume_from=str(folder)))

    assert run.exit_code == 1
    assert run.last["code"] == "invalid_checkpoint"
    assert damage in run.last["message"]


def test_another_effective_batch_cannot_resume(make_order: OrderFactory) -> None:
    """Rows would be trained twice and others never."""
    whole = run_child(make_order())
    training = {"gradient_accumulation_steps": 4, "max_steps": 12}

    run = run_child(make_order(training=training, resume_from=str(last_checkpoint(whole))))

    assert run.last["code"] == "invalid_checkpoint"
    assert "8 rows" in run.last["message"]


def test_a_child_uses_its_scratch_and_nothing_else(make_order: OrderFactory) -> None:
    order = make_order()

    run_child(order)

    names = {path.name for path in Path(order["scratch"]).iterdir()}
    assert names == {"output", "tokens", "cut-train", "tmp"}
    shutil.rmtree(order["scratch"])
