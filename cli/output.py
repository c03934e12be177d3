"""Text for people goes to standard error, data to standard output."""

import json
import sys
from collections.abc import Iterable
from typing import Any

MARKS = {"succeeded": "✓", "failed": "✕", "cancelled": "⊘", "running": "●", "paused": "❚❚"}


def put(value: Any, as_json: bool, text: str) -> None:
    """The API's own object, or what it says."""
    out = json.dumps(value, indent=2) if as_json else text
    sys.stdout.write(f"{out}\n" if out else "")


def put_rows(
    objects: list[Any],
    as_json: bool,
    rows: Iterable[Iterable[object]],
    *,
    only_ids: bool = False,
) -> None:
    """The API's own objects, or a line of columns for each, of which the first is the id."""
    if only_ids:
        rows = ([object_["id"]] for object_ in objects)
    put(objects, as_json, "\n".join("\t".join(map(str, row)) for row in rows))


def say(text: str) -> None:
    """For people."""
    sys.stderr.write(f"{text}\n")


def job_row(job: dict[str, Any]) -> list[str]:
    """The columns of a job in a list."""
    progress = job["progress"]
    done = f"{progress['fraction']:.0%}" if progress["fraction"] is not None else "-"
    mark = MARKS.get(job["status"], "○")
    return [job["id"], f"{mark} {job['status']}", done, job["model"]]
