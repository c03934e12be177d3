"""A plan as a table for people."""

from typing import Any

HEAD = ("micro-batch x accumulation", "checkpointing", "peak memory", "s a step", "")
TERM_NAMES = ("weights", "gradients", "optimizer", "activations", "logits", "workspace", "runtime")


def plan_text(plan: dict[str, Any]) -> str:
    """The options, the terms of the recommended one, and what each worker says."""
    best = plan["recommended"]
    rows = [HEAD, *(_row(option, best) for option in plan["options"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    terms = ", ".join(f"{name} {_size(best['terms'][name])}" for name in TERM_NAMES)
    return "\n".join([_course(plan), "", *table, "", f"Largest moment: {terms}", *_notes(plan)])


def _row(option: dict[str, Any], best: dict[str, Any]) -> tuple[str, ...]:
    micro_batch = option["per_device_train_batch_size"]
    return (
        f"{micro_batch} x {option['gradient_accumulation_steps']}",
        "yes" if option["gradient_checkpointing"] else "no",
        _size(option["peak_memory_bytes"]),
        f"{option['seconds_per_step']:.3g}",
        "recommended" if option == best else "",
    )


def _course(plan: dict[str, Any]) -> str:
    model = plan["model"]
    facts = f"{model['model']}: {model['parameters'] / 1e6:.1f} million parameters"
    parts = [facts, f"effective batch {plan['effective_batch_size']}"]
    if plan["steps"] is not None:
        minutes = plan["total_seconds"] / 60
        parts.append(f"{plan['steps']} steps, {minutes:.1f} minutes ({plan['seconds_are']})")
    parts.append(f"{_size(plan['disk_bytes'])} of checkpoints")
    return ", ".join(parts)


def _notes(plan: dict[str, Any]) -> list[str]:
    verdicts = [
        f"{worker['worker']}: {worker['verdict'].replace('_', ' ')}, {worker['reason']}"
        for worker in plan["workers"]
    ]
    return [*verdicts, *plan["warnings"]]


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
