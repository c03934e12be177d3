"""Measures the peak memory of real training children over a grid of settings."""

import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

from benchmarks.material import order_for, write_long_text
from examples.tiny_model import FAMILIES, make_tiny_model
from tests.training.running import publish, run_child
from worker.forkserver import ChildHandle

EFFECTIVE = 8
SPLITS = (8, 4, 2, 1)
LORA: dict[str, Any] = {"r": 8, "target_modules": "all-linear"}
STEPS = 2
"""The optimizer's state is there from the second step on."""


@dataclass(frozen=True)
class Size:
    """How large the models of one part of the grid are, and how many settings are tried."""

    name: str
    hidden: int
    layers: int
    vocabulary: int
    lengths: tuple[int, int]
    cells: int
    """Settings of each family, out of 64."""


SIZES = (
    Size("tiny", 64, 2, 2048, (64, 256), 4),
    Size("20M", 384, 8, 16384, (64, 256), 10),
    Size("110M", 768, 12, 32768, (48, 128), 3),
)
SMOLLM_CELLS = 6
SMOLLM_LENGTHS = (48, 128)


@dataclass(frozen=True)
class Cell:
    """One setting of the grid."""

    model: str
    """Name of the model's folder."""
    family: str
    method: str
    bf16: bool
    micro_batch: int
    checkpointing: bool
    length: int

    @property
    def name(self) -> str:
        """As a row of the table names it."""
        kept = "checkpointed" if self.checkpointing else "kept"
        precision = "bf16" if self.bf16 else "fp32"
        split = f"{self.micro_batch}x{EFFECTIVE // self.micro_batch}"
        return f"{self.model} {self.method} {precision} {split} of {self.length}, {kept}"

    @property
    def is_pretrained(self) -> bool:
        """Whether it is the real model among the random ones."""
        return self.model not in {f"{size.name}-{family}" for size in SIZES for family in FAMILIES}

    def training(self) -> dict[str, Any]:
        """Its trainer arguments."""
        return {
            "max_steps": STEPS,
            "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": EFFECTIVE // self.micro_batch,
            "max_length": self.length,
            "bf16": self.bf16,
            "gradient_checkpointing": self.checkpointing,
            "learning_rate": 1e-5,
            "logging_steps": 1,
            "save_strategy": "no",
        }

    def peft(self) -> dict[str, Any] | None:
        """Its LoRA settings."""
        return LORA if self.method == "lora" else None


@dataclass(frozen=True)
class Measured:
    """What a child of one setting has taken."""

    cell: Cell
    peak_bytes: int
    seconds_per_step: float


def grid(smollm: Path | None) -> list[Cell]:
    """A sample of all settings, always the same, with each value of each setting in it."""
    cells = []
    for size, family in product(SIZES, FAMILIES):
        cells += _sample(f"{size.name}-{family}", family, size.lengths, size.cells)
    if smollm is not None:
        cells += _sample(smollm.name, "llama", SMOLLM_LENGTHS, SMOLLM_CELLS)
    return cells


def _sample(model: str, family: str, lengths: Sequence[int], count: int) -> list[Cell]:
    choices = product(("full", "lora"), (False, True), SPLITS, (False, True), lengths)
    every = [Cell(model, family, *choice) for choice in choices]
    # Drawn anew after the last change of a coefficient.
    return random.Random(f"{model}, second draw").sample(every, count)


def make_models(root: Path) -> None:
    """Models with random weights: what they compute does not matter for memory."""
    logging.disable_progress_bar()
    for family in FAMILIES:
        tiny = make_tiny_model(family, root / f"tiny-{family}")
        for size in SIZES[1:]:
            _grown(tiny, root / f"{size.name}-{family}", size)


def _grown(tiny: Path, folder: Path, size: Size) -> None:
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = AutoConfig.from_pretrained(tiny)
    config.hidden_size = size.hidden
    config.num_hidden_layers = size.layers
    config.num_attention_heads = size.hidden // 64
    config.vocab_size = size.vocabulary
    wide = {"ffn_dim": 4, "word_embed_proj_dim": 1, "intermediate_size": 3}
    for name, factor in wide.items():
        if hasattr(config, name):
            setattr(config, name, factor * size.hidden)
    for name in ("num_key_value_heads", "layer_types", "head_dim"):
        value = {"num_key_value_heads": size.hidden // 128, "head_dim": 64}.get(name)
        if getattr(config, name, None) is not None:
            setattr(config, name, value or ["full_attention"] * size.layers)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def measure(cells: Sequence[Cell], root: Path, home: Path, keep: Path | None) -> Iterator[Measured]:
    """Run each setting in a child of its own; what is in `keep` already is not run again."""
    known = _known(keep)
    for cell in cells:
        measured = known.get(cell)
        if measured is None:
            measured = _run(cell, root / cell.model, home)
            if keep is not None:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(measured)) + "\n")
        yield measured


def _known(keep: Path | None) -> dict[Cell, Measured]:
    if keep is None or not keep.is_file():
        return {}
    rows = [json.loads(line) for line in keep.read_text(encoding="utf-8").splitlines()]
    return {Cell(**row["cell"]): Measured(**row | {"cell": Cell(**row["cell"])}) for row in rows}


def _run(cell: Cell, model: Path, home: Path) -> Measured:
    scratch = home / "attempt"
    times: list[float] = []

    def note(child: ChildHandle, message: dict[str, Any]) -> None:
        if message["type"] == "metrics":
            times.append(time.perf_counter())
        publish(child, message)

    data = _rows(home / f"rows-{cell.length}.jsonl", cell.length)
    order = order_for(model, data, scratch, training=cell.training(), peft=cell.peft())
    run = run_child(order, react=note)
    shutil.rmtree(scratch, ignore_errors=True)
    if run.last["type"] != "finished":
        raise SystemExit(f"{cell.name} failed: {run.last}\n{run.log.decode()}")
    return Measured(cell, run.last["peak_memory_bytes"], times[1] - times[0])


def _rows(path: Path, length: int) -> Path:
    """Rows of which three in four fill `length` tokens, so that batches need padding."""
    if not path.exists():
        write_long_text(path, rows=EFFECTIVE * STEPS, tokens=length)
        lines = [json.loads(line)["text"] for line in path.read_text().splitlines()]
        cut = [text if number % 4 else text[: 2 * length] for number, text in enumerate(lines)]
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in cut))
    return path
