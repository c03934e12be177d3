"""Models, data and orders for benchmarks of the training child."""

import json
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from transformers.utils import logging

from examples.demo.prepare_model import ModelUnavailable, prepare_model
from examples.tiny_model import make_tiny_model, paragraphs
from worker.machine import usable_cpus


def tiny_llama(models: Path) -> Path:
    """A Llama of 1 MB with random weights, in a folder of model folders."""
    logging.disable_progress_bar()
    return make_tiny_model("llama", models / "tiny-llama")


def small_model(folder: Path | None) -> Path:
    """The model folder that was named, else SmolLM2-135M where the demo keeps it."""
    if folder is not None:
        return folder.expanduser().absolute()
    try:
        return prepare_model(Path("~/.tuneyard/models").expanduser())
    except ModelUnavailable as error:
        raise SystemExit(str(error)) from error


def write_long_text(path: Path, *, rows: int, tokens: int) -> Path:
    """Write `rows` lines of {"text": ...}, all longer than `tokens` tokens of English."""
    source = cycle(paragraphs())
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            text = next(source)
            while len(text) < 10 * tokens:
                text = " ".join([text, *islice(source, 1)])
            file.write(json.dumps({"text": text}) + "\n")
    return path


def order_for(
    model: Path, data: Path, scratch: Path, *, training: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """What a supervisor would send to a training child on a machine without a GPU."""
    return {
        "job_id": "benchmark",
        "attempt": 1,
        "seed": 42,
        "model_dir": str(model),
        "public_model": f"local/{model.name}",
        "train": {"kind": "jsonl", "path": str(data)},
        "training": training,
        "scratch": str(scratch),
        "threads": usable_cpus(),
        "device": "cpu",
        **more,
    }
