"""A plan as a table for people."""

import json
from collections.abc import Iterator
from typing import Any

from cli.output import plain, wrapped
from cli.words import in_words, size_in_words

HEAD = ("micro-batch x accumulation", "checkpointing", "peak memory", "s a step", "")
TERM_NAMES = ("weights", "gradients", "optimizer", "activations", "logits", "workspace", "runtime")


def plan_text(plan: dict[str, Any], *, width: int) -> str:
    """The options, the terms of the recommended one, and what each worker says."""
    best = plan["recommended"]
    rows = [HEAD, *(_row(option, best) for option in plan["options"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    terms = ", ".join(f"{name} {size_in_words(best['terms'][name])}" for name in TERM_NAMES)
    lines = [_course(plan), "", *table, "", f"Largest moment: {terms}", *_notes(plan)]
    return "\n".join(wrapped(plain(line), width) for line in lines)


def _row(option: dict[str, Any], best: dict[str, Any]) -> tuple[str, ...]:
    micro_batch = option["per_device_train_batch_size"]
    return (
        f"{micro_batch} x {option['gradient_accumulation_steps']}",
        "yes" if option["gradient_checkpointing"] else "no",
        size_in_words(option["peak_memory_bytes"]),
        f"{option['seconds_per_step']:.3g}",
        "recommended" if option == best else "",
    )


def _course(plan: dict[str, Any]) -> str:
    model = plan["model"]
    facts = f"{model['model']}: {model['parameters'] / 1e6:.1f} million parameters"
    parts = [facts, f"effective batch {plan['effective_batch_size']}"]
    if plan["steps"] is not None:
        parts.append(
            f"{plan['steps']:,} steps, {in_words(plan['total_seconds'])} ({plan['seconds_are']})"
        )
    parts.append(f"{size_in_words(plan['disk_bytes'])} of checkpoints")
    return ", ".join(parts)


def _notes(plan: dict[str, Any]) -> list[str]:
    verdicts = [
        f"{worker['worker']}: {worker['verdict'].replace('_', ' ')}, {worker['reason']}"
        for worker in plan["workers"]
    ]
    return [*verdicts, *plan["warnings"]]


def fits_somewhere(plan: dict[str, Any]) -> bool:
    """Whether a worker has room for it, or nobody can tell."""
    verdicts = [worker["verdict"] for worker in plan["workers"]]
    return not verdicts or bool({"fits", "unknown"} & set(verdicts))


def fitting_options(plan: dict[str, Any]) -> str:
    """The options that make it fit somewhere; nothing where none do."""
    change = next((one["change"] for one in plan["workers"] if one["change"]), None)
    return "" if change is None else options_of(change)


def options_of(change: dict[str, Any]) -> str:
    """A change of a job's body as options of the command."""
    return " ".join(_options(change))


def _options(change: dict[str, Any]) -> Iterator[str]:
    training = change.get("training", {})
    yield from (f"--{name} {json.dumps(value)}" for name, value in training.items())
    if change.get("peft"):
        yield f"--lora-rank {change['peft'].get('r', 8)}"
    rest = sorted(set(change) - {"training", "peft"})
    yield from (f"{name}={json.dumps(change[name])} (--from-file)" for name in rest)
