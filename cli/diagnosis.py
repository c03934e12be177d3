"""Why a job failed, and the command that may help."""

from collections.abc import Iterator
from typing import Any

from cli.output import plain
from cli.planned import options_of
from cli.words import size_in_words

SHORTEST = 64
"""Tokens of a row below which cutting helps nobody."""
SHOWN_LINES = 3
TAIL = 20
AGAIN = (
    *("time_limit", "stalled", "child_died", "worker_lost", "internal"),
    *("disk_full", "storage_full", "storage_unavailable", "storage_forbidden", "hub_unavailable"),
)
"""Failures that need not come again in the same way."""


def diagnosis(job: dict[str, Any], name: str) -> Iterator[str]:
    """Cause, what to try, what was seen; nothing for a job that has not failed."""
    error = job["error"]
    if error is None:
        return
    attempt = next((one for one in reversed(job["attempts"] or []) if one["error"]), None)
    evidence = ((attempt or {"error": {}})["error"]).get("evidence") or {}
    yield f"  Why       {plain(error['message'])}"
    tries = [error["suggestion"], *commands(job, evidence, name)]
    yield from _beside("Try", [plain(one) for one in tries if one])
    seen = [*_numbers(evidence)]
    if attempt and evidence.get("log"):
        tail = min(len(evidence["log"]), TAIL)
        seen.append(f"tuneyard logs {name} --attempt {attempt['number']} --tail {tail}")
        seen += [plain(line) for line in evidence["log"][-SHOWN_LINES:]]
    yield from _beside("Evidence", seen)


def commands(job: dict[str, Any], evidence: dict[str, Any], name: str) -> Iterator[str]:
    """What to type; the effective batch stays, as a retry wants it."""
    code, training = job["error"]["code"], job["training"]
    change = (evidence.get("advice") or {}).get("change")
    if code in AGAIN:
        yield f"tuneyard retry {name}"
    elif change and not change.get("quantization"):
        verb = "jobs clone" if change.get("peft") else "retry"
        yield f"tuneyard {verb} {name} {options_of(change)}"
    elif code == "out_of_memory" and evidence.get("depends_on_batch", True):
        length = int(training.get("max_length") or 1024)
        if length > SHORTEST:
            yield f"tuneyard retry {name} --max_length {length // 2}"
    elif code == "non_finite_loss":
        rate = float(training.get("learning_rate") or 2e-5)
        yield f"tuneyard retry {name} --learning_rate {rate / 10:g}"


def _numbers(evidence: dict[str, Any]) -> Iterator[str]:
    advice = evidence.get("advice")
    if advice:
        needed, there = (size_in_words(advice[f"{which}_bytes"]) for which in ("needed", "limit"))
        yield f"needed {needed} of {there}, at step {evidence.get('step', 0)}"


def _beside(heading: str, lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield f"  {heading:<10}{line}"
        heading = ""
