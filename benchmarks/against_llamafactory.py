"""Tokens a second of the training child, against LLaMA-Factory at equal precision.

    python benchmarks/against_llamafactory.py --model models/smollm2-135m-instruct

Goal: not slower.

Method: SmolLM2-135M with LoRA (r=8 on q_proj and v_proj), effective batch 8 of at most 128 tokens
as 4 x 2, the same file of texts in the same order, the same arguments and number of threads for
both, LLaMA-Factory by its own training function (stage `pt`, without its activation checkpointing).
Rows are `cut` (all longer than the limit, so that nobody pads) and `natural` paragraphs; precisions
are fp32 and bf16 (weights in bf16, adapters in fp32, autocast). Child and peer take turns (A B A
B); a step's time is that between the logs of two steps, the median of all but the first two. `cpu
ratio` compares the CPU time, which moves less on a busy machine. First losses are compared too,
before chance has made the adapters different: both must train the same. In `natural` rows the peer
leaves out the token that ends a text, as its padding is the same token. Where the CPU has no units
for it, bf16 is slow for both.

LLaMA-Factory goes into an environment of its own below ~/.cache/tuneyard-benchmarks, which takes
2 GB and a few minutes once. About eight minutes on two idle cores after that; --cases, --rounds and
--steps make it shorter.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.material import order_for, small_model, write_long_text
from benchmarks.peers import peer_environment
from benchmarks.report import Report, parser_of
from benchmarks.sides import Trained, train_in_child, train_in_script
from examples.tiny_model import write_pydoc_text
from worker.forkserver import child_environment, warm

VERSION = "0.9.5"
TORCH = "torch==2.13.0"
NEEDED = (
    TORCH,
    "accelerate==1.11.0",
    "datasets==4.0.0",
    "peft==0.18.1",
    "transformers==5.6.0",
    "trl==0.24.0",
    "tyro<0.9.0",
    "torchdata<=0.11.0",
    *("av", "einops", "fastapi", "fire", "matplotlib", "omegaconf", "pandas", "protobuf"),
    *("pyyaml", "scipy", "sentencepiece", "sse-starlette", "tiktoken", "uvicorn"),
)
"""Without its page, and without torchvision and torchaudio, which want another build of torch."""
SCRIPT = Path(__file__).with_name("llamafactory_script.py")
MICRO_BATCH, ACCUMULATION, LENGTH, SKIPPED_STEPS = 4, 2, 128, 2
PEFT = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
PRECISIONS: dict[str, tuple[str, bool]] = {"fp32": ("float32", False), "bf16": ("bfloat16", True)}
"""The type of the weights, and whether the trainer computes in bf16."""
CASES = ("fp32-cut", "fp32-natural", "bf16-cut")
COLUMNS = ("", "child s a step", "peer s a step", "ratio", "cpu ratio", "peak MB", "peer peak MB")
COLUMNS += ("first loss", "peer first loss")
SAME_LOSS = {"fp32-cut": 1e-4, "fp32-natural": 0.05, "bf16-cut": 0.02}
"""How far the first losses may be apart."""


@dataclass(frozen=True)
class Case:
    """One workload, for either side."""

    name: str
    model: Path
    data: Path
    steps: int

    @property
    def dtype(self) -> str:
        """Type of the weights."""
        return PRECISIONS[self.name.split("-")[0]][0]

    @property
    def training(self) -> dict[str, Any]:
        """The trainer's arguments, by the names that both know."""
        return {
            "max_steps": self.steps,
            "per_device_train_batch_size": MICRO_BATCH,
            "gradient_accumulation_steps": ACCUMULATION,
            "max_length": LENGTH,
            "learning_rate": 1e-4,
            "logging_steps": 1,
            "save_strategy": "no",
            "seed": 42,
            "train_sampling_strategy": "sequential",
            "bf16": PRECISIONS[self.name.split("-")[0]][1],
        }


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="model folder; default: the demo's SmolLM2-135M")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8, help="three at least")
    given = parser.parse_args()
    python, model = peer_python(), small_model(given.model)
    result = Report(f"Against LLaMA-Factory {VERSION}, {model.name}, LoRA r=8", COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        warm(child_environment(scratch=home / "forkserver"))
        for name in given.cases:
            rows = MICRO_BATCH * ACCUMULATION * given.steps
            data = home / f"{name}.jsonl"
            if name.endswith("cut"):
                write_long_text(data, rows=rows, tokens=LENGTH)
            else:
                write_pydoc_text(data, rows)
            compare(Case(name, model, data, given.steps), given.rounds, python, result)
    result.show(as_json=given.json)


def peer_python() -> Path:
    """The interpreter of the environment that has LLaMA-Factory; made where it is not there."""
    folder = Path(f"~/.cache/tuneyard-benchmarks/llamafactory-{VERSION}").expanduser()
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists():
        return python
    print(f"Making {folder} ...", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "install", "-q"]
    # One after the other: the peer's own list of packages would bring another torch.
    for packages in ((TORCH,), ("--no-deps", f"llamafactory=={VERSION}"), NEEDED):
        subprocess.run([*pip, *packages], check=True)
    ready.touch()
    return python


def compare(case: Case, rounds: int, python: Path, result: Report) -> None:
    """Let both train in turn, and add a row."""
    children, peers = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            children.append(train_child(case, Path(folder) / "child"))
            peers.append(train_peer(case, Path(folder), python))
    pace, peer_pace = (statistics.median(_all(runs, "seconds")) for runs in (children, peers))
    cpu, peer_cpu = (statistics.median(_all(runs, "cpu_seconds")) for runs in (children, peers))
    ratio, cpu_ratio = peer_pace / pace, peer_cpu / cpu
    peaks = [round(max(run.peak_bytes for run in runs) / 1e6) for runs in (children, peers)]
    # The peer divides by all tokens of a row, the first one too, which nothing predicts.
    losses = [children[0].losses[0], peers[0].losses[0] * LENGTH / (LENGTH - 1)]
    result.rows.append([case.name, pace, peer_pace, ratio, cpu_ratio, *peaks, *losses])
    text = f"{case.name}, not slower: {ratio:.2f} (cpu ratio {cpu_ratio:.2f})"
    result.goals.append((text, ratio >= 1))
    apart, limit = abs(losses[0] - losses[1]), SAME_LOSS[case.name]
    text = f"{case.name}, first losses within {limit:g}: {apart:.1e}"
    result.goals.append((text, apart <= limit))


def train_child(case: Case, scratch: Path) -> Trained:
    """Train here."""
    order = order_for(
        case.model, case.data, scratch, training=case.training, peft=PEFT, dtype=case.dtype
    )
    return train_in_child(order)


def train_peer(case: Case, folder: Path, python: Path) -> Trained:
    """Train there."""
    given = {
        "model": str(_in_type(case.model, case.dtype, folder)),
        "train": str(case.data),
        "output": str(folder / "peer"),
        "training": case.training,
        "peft": PEFT,
    }
    # Newer packages than it names serve as well; it would refuse them.
    environment = peer_environment(folder / "huggingface") | {"DISABLE_VERSION_CHECK": "1"}
    environment.pop("PYTHONPATH", None)
    return train_in_script([os.fspath(python), str(SCRIPT)], given, environment=environment)


def _in_type(model: Path, dtype: str, folder: Path) -> Path:
    """The same model, whose configuration names this type: the peer goes by nothing else."""
    copy = folder / "model"
    copy.mkdir()
    for file in model.iterdir():
        if file.name != "config.json":
            (copy / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"dtype": dtype}))
    return copy


def _all(runs: list[Trained], name: str) -> list[float]:
    return [value for run in runs for value in getattr(run, name)(skipped=SKIPPED_STEPS)]


if __name__ == "__main__":
    main()
