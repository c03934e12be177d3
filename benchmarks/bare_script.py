"""What a user would write without this service. Reads one case as JSON, prints each step's log.

It is the reference of the benchmarks: `python benchmarks/bare_script.py < case.json`.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


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
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            case["model"], dtype=getattr(torch, case["dtype"])
        ),
        args=SFTConfig(
            **{
                "output_dir": case["output"],
                "use_cpu": True,
                "bf16": False,
                "activation_checkpointing": False,
                "save_strategy": "no",
                "report_to": "none",
                "disable_tqdm": True,
            }
            | case["training"]
        ),
        train_dataset=load_dataset("json", data_files=case["train"], split="train"),
        processing_class=AutoTokenizer.from_pretrained(case["model"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **case["peft"]) if case["peft"] else None,
        callbacks=[Tell()],
    )
    trainer.train()
    print("PEAK", peak_memory_bytes(), flush=True)


if __name__ == "__main__":
    main()
