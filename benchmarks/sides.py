"""One training by the child of a worker, or by a script of somebody else, timed step by step."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.peers import Moment, timed_lines
from tests.training.running import publish, run_child
from worker.forkserver import ChildHandle

Step = tuple[Moment, float]
"""When a step was logged, and its loss."""


@dataclass(frozen=True)
class Trained:
    """What one training did."""

    steps: Sequence[Step]
    peak_bytes: int
    """The most resident memory of the process over its life."""

    @property
    def losses(self) -> list[float]:
        """By step."""
        return [loss for _, loss in self.steps]

    def seconds(self, *, skipped: int = 1) -> list[float]:
        """Of each step but the first ones, from log to log."""
        moments = [moment for moment, _ in self.steps][skipped - 1 :]
        return [after.at - before.at for before, after in pairwise(moments)]

    def cpu_seconds(self, *, skipped: int = 1) -> list[float]:
        """The same, over all cores that the process had."""
        moments = [moment for moment, _ in self.steps][skipped - 1 :]
        return [after.cpu - before.cpu for before, after in pairwise(moments)]


def train_in_child(order: dict[str, Any]) -> Trained:
    """Train in a child of the forkserver, as a worker does. SystemExit when it fails."""
    steps: list[Step] = []

    def note(child: ChildHandle, message: dict[str, Any]) -> None:
        if message["type"] == "metrics":
            steps.append((Moment.of(child.pid), message["data"]["train_loss"]))
        publish(child, message)

    run = run_child(order, react=note)
    if run.last["type"] != "finished":
        raise SystemExit(f"The child failed: {run.last}\n{run.log.decode()}")
    return Trained(steps, run.last["peak_memory_bytes"])


def train_in_script(
    command: Sequence[str], case: Mapping[str, Any], *, environment: Mapping[str, str]
) -> Trained:
    """Train in a program that reads a case and prints STEP and PEAK. SystemExit when it fails."""
    steps: list[Step] = []
    peak_bytes = 0
    for moment, line in timed_lines(command, environment=environment, text=json.dumps(case)):
        kind, _, value = line.partition(" ")
        if kind == "STEP":
            steps.append((moment, json.loads(value)["loss"]))
        elif kind == "PEAK":
            peak_bytes = int(value)
    return Trained(steps, peak_bytes)
