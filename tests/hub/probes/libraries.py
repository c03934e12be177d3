"""Run as a user's script: loads what was trained by name, and prints what it found as JSON."""

import json
import sys
import urllib.request
from typing import Any

import datasets
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

WANTED = json.loads(sys.argv[1])
JOB, ADAPTER, BASE = WANTED["job"], WANTED["adapter"], WANTED["base"]
PROMPT = [{"role": "user", "content": "Explain assert."}]


def mark(name: str) -> None:
    """Leave a mark in what the server has seen."""
    urllib.request.urlopen(f"{WANTED['site']}/healthz?mark={name}").close()


def logits(model: Any) -> list[float]:
    """What tells one model from another."""
    with torch.no_grad():
        return [
            round(value, 5) for value in model(torch.arange(8)[None]).logits[0, -1, :4].tolist()
        ]


def main() -> None:
    """Load everything in every way."""
    results: dict[str, Any] = {}
    mark("first")
    whole = AutoModelForCausalLM.from_pretrained(JOB, revision="step-2")
    mark("second")
    results["again"] = logits(AutoModelForCausalLM.from_pretrained(JOB, revision="step-2"))
    mark("rest")
    results["step-2"] = logits(whole)
    results["main"] = logits(AutoModelForCausalLM.from_pretrained(JOB))
    tokenizer = AutoTokenizer.from_pretrained(JOB, revision="step-2")
    results["chat"] = tokenizer.apply_chat_template(PROMPT, tokenize=False)
    inputs = tokenizer("Once", return_tensors="pt")
    results["generated"] = whole.generate(**inputs, max_new_tokens=3).shape[1]

    base = AutoModelForCausalLM.from_pretrained(BASE)
    results["base"] = logits(base)
    results["peft"] = logits(PeftModel.from_pretrained(base, ADAPTER, revision="step-2"))
    results["auto_peft"] = logits(AutoPeftModelForCausalLM.from_pretrained(ADAPTER))
    results["adapter_by_name"] = logits(AutoModelForCausalLM.from_pretrained(ADAPTER))
    results["alias"] = logits(AutoPeftModelForCausalLM.from_pretrained(f"{ADAPTER}.step-2"))

    for name, repository in WANTED["files"].items():
        found = datasets.load_dataset(repository, split="train")
        results[name] = [found.num_rows, found[0]]
    jsonl = WANTED["files"]["jsonl"]
    for name, repository in WANTED["files"].items():
        rows = datasets.load_dataset(repository, split="train", streaming=True)
        results[f"{name}_streamed"] = list(rows.take(2))
    chosen = datasets.load_dataset(jsonl, data_files={"test": "train.jsonl"}, split="test")
    results["chosen"] = chosen.num_rows
    print(json.dumps(results))


main()
