"""What a terminal shows of a job that trains: three calm lines that change in place."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

BLOCKS = "▁▂▃▄▅▆▇█"
SPARKS = 24
RECENT = 200
"""Points by which the pace is told: what came long before says little."""
BAR_CELLS = 42


@dataclass(slots=True)
class Picture:
    """Follows a job's events, the old ones too: they carry the time at which they happened."""

    state: str = "queued"
    step: int = 0
    total: int = 0
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=SPARKS))
    evaluation: float | None = None
    points: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """Step and second of the metrics of this attempt."""

    def see(self, event: dict[str, Any]) -> None:
        """Take one event."""
        data = event["data"] or {}
        if data.get("kind") == "state":
            self.state = data.get("status", self.state)
            # Time that passed between attempts trained nothing.
            self.points.clear()
        if event["type"] != "metrics":
            return
        if data["step"] < self.step:
            # It went back to a checkpoint.
            self.points.clear()
        self.step, self.total = data["step"], data["total_steps"]
        self.points.append((self.step, event["created_at"]))
        if "train_loss" in data:
            self.losses.append(data["train_loss"])
        self.evaluation = data.get("valid_loss", self.evaluation)

    def left(self) -> float | None:
        """Seconds that the remaining steps will take at the recent pace."""
        if len(self.points) < 2:
            return None
        (first, began), (last, ended) = self.points[0], self.points[-1]
        if ended == began:
            # Events tell whole seconds; less than one says nothing.
            return None
        return (ended - began) / max(1, last - first) * (self.total - last)

    def render(self) -> RenderableType:
        """The lines."""
        if not self.step:
            return Text(f"○ {self.state}")
        left = self.left()
        head = [f"● {self.state}", f"step {self.step:,}/{self.total:,}", f"{self.share():.0%}"]
        head += [f"{in_words(left)} left"] if left is not None and self.step < self.total else []
        done = round(self.share() * BAR_CELLS)
        bar = Text.assemble(("━" * done, "bold"), ("─" * (BAR_CELLS - done), "dim"))
        return Group(Text(" · ".join(head)), bar, Text(self._losses()))

    def share(self) -> float:
        """How much of the steps is done."""
        return self.step / self.total

    def _losses(self) -> str:
        parts = [f"loss {self.losses[-1]:.4f} {spark(self.losses)}"] if self.losses else []
        parts += [f"eval {self.evaluation:.4f}"] if self.evaluation is not None else []
        return "  ".join(parts)


def spark(values: deque[float]) -> str:
    """A curve of one line."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in values)


def in_words(seconds: float) -> str:
    """A time as people say it: 40 s, 3 m 5 s, 2 h 10 m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} m"
