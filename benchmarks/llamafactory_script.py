"""What a user of LLaMA-Factory would run. Reads one case as JSON, prints each step's log.

It runs in an environment of its own, which benchmarks/against_llamafactory.py makes.
"""

import json
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

# Its reader of sounds and pictures wants this; text needs nothing of it.
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)

from llamafactory.train.tuner import run_exp  # noqa: E402
from transformers import TrainerCallback  # noqa: E402


class Tell(TrainerCallback):  # type: ignore[misc]
    """Prints what the trainer logs, at once."""

    def on_log(self, args, state, control, logs, **_):  # type: ignore[no-untyped-def]
        """Print one line for one step."""
        if "loss" in logs:
            print("STEP", json.dumps({"step": state.global_step, "loss": logs["loss"]}), flush=True)


def peak_memory_bytes() -> int:
    """The most that this process has held. (ru_maxrss would count the process that started it.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Train the case."""
    case = json.load(sys.stdin)
    output, train = Path(case["output"]), Path(case["train"])
    output.mkdir(parents=True)
    columns = {"file_name": str(train), "columns": {"prompt": "text"}}
    (output / "dataset_info.json").write_text(json.dumps({"rows": columns}))
    training = dict(case["training"])
    peft = case["peft"]
    run_exp(
        {
            "stage": "pt",
            "do_train": True,
            "model_name_or_path": case["model"],
            "dataset": "rows",
            "dataset_dir": str(output),
            "output_dir": str(output / "trained"),
            "cutoff_len": training.pop("max_length"),
            "packing": False,
            "finetuning_type": "lora",
            "lora_rank": peft["r"],
            "lora_alpha": peft["lora_alpha"],
            "lora_target": ",".join(peft["target_modules"]),
            # It would save memory by default, and take a third longer.
            "disable_gradient_checkpointing": True,
            "disable_shuffling": True,
            "use_cpu": True,
            "report_to": "none",
            "disable_tqdm": True,
        }
        | {name: value for name, value in training.items() if name != "train_sampling_strategy"},
        callbacks=[Tell()],
    )
    print("PEAK", peak_memory_bytes(), flush=True)


if __name__ == "__main__":
    main()
