"""Ask a model the same questions without and with its adapter.

    python -m examples.demo.compare MODEL_FOLDER ADAPTER_FOLDER ANSWERS.json

A process of its own, so that the memory is free again when it has ended.
"""

import argparse
import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from examples.demo.data import HELD_OUT

MAX_NEW_TOKENS = 48


@torch.inference_mode()
def answer(model: PeftModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The likeliest answer to each held-out question: greedy, so it is always the same."""
    chats = [[{"role": "user", "content": question}] for question in HELD_OUT]
    batch = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    tokens = model.generate(**batch, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    new = tokens[:, batch["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


def main() -> None:
    """Write {"before": [...], "after": [...]} to the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "adapter", "answers"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    # One token at a time has no work for two; on a busy machine they wait for each other.
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
    base = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, arguments.adapter).eval()
    with model.disable_adapter():
        before = answer(model, tokenizer)
    answers = {"before": before, "after": answer(model, tokenizer)}
    arguments.answers.write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
