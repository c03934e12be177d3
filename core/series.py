"""Columns of metrics made shorter, so that a small picture of them costs little."""

from typing import Any

LOSS = "train_loss"


def thin(columns: dict[str, list[Any]], max_points: int) -> dict[str, list[Any]]:
    """At most about `max_points` rows: of each stretch the lowest and the highest training loss.

    The first and the last row stay, and every row of an evaluation.
    """
    total = len(columns["step"])
    if total <= max_points:
        return columns
    losses = columns.get(LOSS, [None] * total)
    kept = {0, total - 1}
    kept.update(i for i, value in enumerate(columns.get("valid_loss", ())) if value is not None)
    size = -(-total * 2 // max_points)
    for start in range(0, total, size):
        known = [i for i in range(start, min(start + size, total)) if losses[i] is not None]
        if known:
            kept.add(min(known, key=losses.__getitem__))
            kept.add(max(known, key=losses.__getitem__))
    rows = sorted(kept)
    return {name: [values[i] for i in rows] for name, values in columns.items()}
