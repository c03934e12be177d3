"""What a user would write without this service: reads cases as JSON, prints their log histories."""

import json
import sys

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def train(case):
    model = AutoModelForCausalLM.from_pretrained(case["model"], dtype=torch.float32)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=case["output"],
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=case["seed"],
            **case["training"],
        ),
        train_dataset=load_dataset("json", data_files=case["train"], split="train"),
        eval_dataset=load_dataset("json", data_files=case["eval"], split="train"),
        processing_class=AutoTokenizer.from_pretrained(case["model"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **case["peft"]) if case["peft"] else None,
    )
    trainer.train()
    return trainer.state.log_history


if __name__ == "__main__":
    torch.set_num_threads(2)
    histories = [train(case) for case in json.load(sys.stdin)]
    sys.stdout.write("RESULT " + json.dumps(histories) + "\n")
