"""Kills a training child at every phase of its life, and goes on from what had been published."""

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.training.running import ChildRun, Message, run_child
from worker.forkserver import ChildHandle

TOTAL_STEPS = 9
EVERY = 3
"""Steps between checkpoints; evaluations come right before them."""
COMMON: dict[str, Any] = {
    "max_steps": TOTAL_STEPS,
    "save_steps": EVERY,
    "eval_strategy": "steps",
    "eval_steps": EVERY,
    "logging_steps": 1,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "max_length": 64,
    "learning_rate": 1e-3,
}
LORA = {"r": 4, "target_modules": "all-linear", "lora_dropout": 0.1}
KINDS: dict[str, dict[str, Any]] = {
    "full": {"family": "llama"},
    "dropout": {"family": "opt"},
    "lora": {"family": "llama", "peft": LORA},
    "packing": {"family": "llama", "training": {"packing": True, "max_length": 128}},
    "streamed": {"family": "llama", "is_packed": True},
}
PHASES = (
    "before the first step",
    "in a step",
    "in an evaluation",
    "in a save",
    "between save and publish",
    "in the last step",
)
MakeOrder = Callable[..., Message]


@dataclass(frozen=True)
class Trajectory:
    """What a training was, step by step, and what it came to."""

    metrics: dict[int, dict[str, float]]
    weights: str
    """SHA-256 of the last checkpoint's weights."""


class Killer:
    """Publishes checkpoints as a supervisor does, until the child reaches the phase; then kills."""

    def __init__(self, phase: str, scratch: Path):
        self._phase = phase
        self._scratch = scratch
        self.has_killed = False
        self.published: Path | None = None
        """The newest published checkpoint, which is what a next attempt gets."""

    def __call__(self, child: ChildHandle, message: Message) -> None:
        """React to one message of the child."""
        if self.has_killed:
            return
        if self._is_time(message):
            self.has_killed = True
            child.kill()
        elif message["type"] == "checkpoint":
            self.published = Path(message["path"])
            child.send({"type": "published", "step": message["step"]})

    def _is_time(self, message: Message) -> bool:
        is_step = message["type"] == "metrics" and "train_loss" in message["data"]
        step = message.get("step")
        match self._phase:
            case "before the first step":
                return message["type"] == "resolved"
            case "in a step":
                return is_step and step == EVERY + 1
            case "in an evaluation":
                # A step's loss is told, then the evaluation begins, and tells when it is done.
                return is_step and step == 2 * EVERY
            case "in a save":
                is_saved_next = message["type"] == "metrics" and "valid_loss" in message["data"]
                if is_saved_next and step == 2 * EVERY:
                    self._wait_for_a_file_of(2 * EVERY)
                    return True
                return False
            case "between save and publish":
                return message["type"] == "checkpoint" and step == 2 * EVERY
            case _:
                return is_step and step == TOTAL_STEPS - 1

    def _wait_for_a_file_of(self, step: int) -> None:
        while not any(self._scratch.rglob(f"checkpoint-{step}/*.safetensors")):
            continue


def undisturbed(make_order: MakeOrder, kind: str, files: Path, evaluation: Path) -> Trajectory:
    """A training that is left alone."""
    run = run_child(_order(make_order, kind, files, evaluation))
    return _trajectory(run, {})


def killed(
    make_order: MakeOrder, kind: str, phase: str, files: Path, evaluation: Path
) -> Trajectory:
    """The same training, killed once in this phase, and then gone on with."""
    order = _order(make_order, kind, files, evaluation)
    killer = Killer(phase, Path(order["scratch"]))
    first = run_child(order, react=killer)
    assert killer.has_killed
    assert first.exit_code == -9, first.log.decode()
    if phase == "in an evaluation":
        assert "valid_loss" not in _metrics(first)[2 * EVERY]
    again = _order(make_order, kind, files, evaluation)
    kept: dict[int, dict[str, float]] = {}
    if killer.published is not None:
        again["resume_from"] = str(killer.published)
        resumed = int(killer.published.name.removeprefix("checkpoint-"))
        kept = {step: data for step, data in _metrics(first).items() if step <= resumed}
    return _trajectory(run_child(again), kept)


def _order(make_order: MakeOrder, kind: str, file: Path, evaluation: Path) -> Message:
    fields = dict(KINDS[kind])
    if fields.pop("is_packed", False):
        fields["train"] = {"kind": "jsonl", "path": str(_packed(file)), "compression": "gzip"}
    training = COMMON | fields.pop("training", {})
    evaluated = {"kind": "jsonl", "path": str(evaluation)}
    return make_order(fields.pop("family"), training=training, eval=evaluated, **fields)


def _packed(file: Path) -> Path:
    """The same rows as a stream that can only be read from its beginning."""
    packed = file.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(file.read_bytes(), mtime=0))
    return packed


def _trajectory(run: ChildRun, before: dict[int, dict[str, float]]) -> Trajectory:
    assert run.exit_code == 0, run.log.decode()
    folder = Path(run.of("checkpoint")[-1]["path"])
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return Trajectory(before | _metrics(run), digest.hexdigest())


def _metrics(run: ChildRun) -> dict[int, dict[str, float]]:
    """What was told of each step, by training and evaluation together."""
    found: dict[int, dict[str, float]] = {}
    for message in run.of("metrics"):
        found.setdefault(message["step"], {}).update(message["data"])
    return found
