"""The model card of a checkpoint: where it comes from, how it went, and how to load it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.models import Job

CURVE = "loss.svg"
CARD = "README.md"

Columns = Mapping[str, Sequence[Any]]
"""Metrics by name, as `core.events.read_metrics` gives them."""

WIDTH, HEIGHT, MARGIN = 640, 240, 40
COLORS = {"train_loss": "#2563eb", "valid_loss": "#d97706"}
MAX_POINTS = 1000

_LOAD_WHOLE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{name}", revision="{revision}")
tokenizer = AutoTokenizer.from_pretrained("{name}", revision="{revision}")
"""
_LOAD_ADAPTER = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{name}", revision="{revision}")
tokenizer = AutoTokenizer.from_pretrained("{name}", revision="{revision}")
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card tells."""

    job: Job
    step: int
    metrics: Mapping[str, Any]
    """Those of the checkpoint."""
    columns: Columns
    """Those of the whole job."""


def write_card(folder: Path, facts: Facts) -> None:
    """Write the card and the loss curve into a checkpoint's folder, in place of any other card."""
    curve = draw_curves(facts.columns, last_step=facts.step)
    (folder / CURVE).write_text(curve, encoding="utf-8")
    (folder / CARD).write_text(render_card(facts, _base(folder, facts.job)), encoding="utf-8")


def render_card(facts: Facts, base: str) -> str:
    """The card as Markdown with YAML in front."""
    job = facts.job
    name, revision = f"jobs/{job.id}", f"step-{facts.step}"
    load = _LOAD_ADAPTER if _is_adapter(job) else _LOAD_WHOLE
    arguments = {"peft": job.spec.get("peft"), "quantization": job.spec.get("quantization")}
    settings = {"seed": job.seed, "training": job.training, **arguments}
    sections = {
        "How to load": "With `HF_ENDPOINT` set to the address of the service, ending in `/hf`, "
        "and `HF_TOKEN` to a key of it:\n\n"
        + _fenced(load.format(name=name, revision=revision, base=base), "python"),
        "Metrics": f"{_table(facts.metrics)}\n\n![Loss by step]({CURVE})",
        "Data": _fenced(_json({"source": _source(job), "report": job.data_report}), "json"),
        "Settings": _fenced(_json(settings), "json"),
    }
    title = f"# {name}, step {facts.step}\n\n{_inline(base)}, fine-tuned by Tuneyard with TRL."
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections.items())
    return f"---\n{_front_matter(job, base)}---\n\n{title}\n\n{body}\n"


def draw_curves(columns: Columns, *, last_step: int) -> str:
    """The losses up to a step as a small SVG picture."""
    steps = columns.get("step", ())
    curves = {name: _points(steps, columns.get(name, ()), last_step) for name in COLORS}
    values = [value for points in curves.values() for _, value in points]
    top, bottom = max(values, default=1.0), min(values, default=0.0)
    lines = [
        _text(MARGIN, MARGIN - 12, f"{top:.4g}"),
        _text(MARGIN, HEIGHT - MARGIN + 16, f"{bottom:.4g}"),
        _text(WIDTH - MARGIN, HEIGHT - MARGIN + 16, f"step {last_step}", anchor="end"),
    ]
    for number, (name, points) in enumerate(curves.items()):
        if points:
            lines.append(_text(WIDTH - MARGIN, 16 + 14 * number, name, COLORS[name], "end"))
            lines.append(_line(points, COLORS[name], top, bottom, last_step))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def _front_matter(job: Job, base: str) -> str:
    fields: dict[str, Any] = {
        "base_model": base,
        "library_name": "peft" if _is_adapter(job) else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["tuneyard", "trl", "sft", *(["lora"] if _is_adapter(job) else [])],
    }
    dataset = job.spec.get("dataset")
    if dataset is not None:
        fields["datasets"] = [dataset["path"]]
    # JSON is YAML, with everything quoted that YAML would take for something else.
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items())


def _base(folder: Path, job: Job) -> str:
    """The public name of what these weights go on top of."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        return str(json.loads(adapter.read_bytes())["base_model_name_or_path"])
    return job.base_model


def _is_adapter(job: Job) -> bool:
    return job.spec.get("peft") is not None


def _source(job: Job) -> dict[str, Any]:
    names = {"training_file": job.training_file, "validation_file": job.validation_file}
    return {**names, "dataset": job.spec.get("dataset")}


def _table(values: Mapping[str, Any]) -> str:
    rows = [f"| {_inline(name)} | {value:.6g} |" for name, value in values.items()]
    return "\n".join(["| metric | value |", "|---|---|", *rows])


def _json(values: Mapping[str, Any]) -> str:
    known = {name: value for name, value in values.items() if value is not None}
    return json.dumps(known, indent=2, sort_keys=True)


def _fenced(text: str, language: str) -> str:
    """A block of code that its own text cannot end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _inline(text: str) -> str:
    return f"`{text.replace('`', '')}`"


def _points(
    steps: Iterable[int], values: Iterable[float | None], last_step: int
) -> list[tuple[int, float]]:
    points = [
        (step, value)
        for step, value in zip(steps, values, strict=False)
        if value is not None and step <= last_step
    ]
    return points[:: -(-len(points) // MAX_POINTS) or 1]


def _line(
    points: Sequence[tuple[int, float]], color: str, top: float, bottom: float, last_step: int
) -> str:
    width, height = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    spread = (top - bottom) or 1.0
    dots = " ".join(
        f"{MARGIN + width * step / max(1, last_step):.1f},"
        f"{MARGIN + height * (top - value) / spread:.1f}"
        for step, value in points
    )
    return f'<polyline points="{dots}" fill="none" stroke="{color}" stroke-width="1.5"/>'


def _text(x: int, y: int, text: str, color: str = "#333", anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" fill="{color}" text-anchor="{anchor}">{text}</text>'
