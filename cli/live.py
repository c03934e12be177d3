"""What a terminal shows of a job that trains: three calm lines that change in place."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from cli.output import MARKS, plain
from cli.words import in_words

BLOCKS = "▁▂▃▄▅▆▇█"
SPARKS = 24
RECENT = 200
"""Points by which the pace is told: what came long before says little."""
BAR_CELLS = 40


@dataclass(slots=True)
class Picture:
    """Follows a job's events, the old ones too: they carry the time at which they happened."""

    state: str = ""
    reason: str = ""
    """What a queued job waits for."""
    worker: str = ""
    attempt: int = 0
    step: int = 0
    total: int = 0
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=SPARKS))
    evaluation: float | None = None
    points: deque[tuple[int, int, float | None]] = field(
        default_factory=lambda: deque(maxlen=RECENT)
    )
    """Step, second and tokens so far of the metrics of this attempt."""

    def see(self, event: dict[str, Any]) -> None:
        """Take one event."""
        data = event["data"] or {}
        if data.get("kind") == "state":
            self.state = data.get("status", self.state)
            self.worker = plain(data.get("worker", self.worker))
            self.attempt = data.get("attempt", self.attempt)
            # Time that passed between attempts trained nothing.
            self.points.clear()
        if event["type"] != "metrics":
            return
        if data["step"] < self.step:
            # It went back to a checkpoint.
            self.points.clear()
        self.step, self.total = data["step"], data["total_steps"]
        self.points.append((self.step, event["created_at"], data.get("num_tokens")))
        if "train_loss" in data:
            self.losses.append(data["train_loss"])
        self.evaluation = data.get("valid_loss", self.evaluation)

    def left(self) -> float | None:
        """Seconds that the remaining steps will take at the recent pace."""
        passed = self._passed()
        if passed is None:
            return None
        first, last = self.points[0][0], self.points[-1][0]
        return passed / max(1, last - first) * (self.total - last)

    def render(self) -> RenderableType:
        """The lines."""
        lines = [self._head()]
        if self.step:
            done = round(self.share() * BAR_CELLS)
            steps = f"  {self.share():.0%}  step {self.step:,}/{self.total:,}"
            bar = (("━" * done, "bold"), ("─" * (BAR_CELLS - done), "dim"))
            lines += [Text.assemble("  ", *bar, steps), Text(f"  {self._losses()}")]
        return Group(*lines)

    def share(self) -> float:
        """How much of the steps is done."""
        return self.step / self.total

    def _head(self) -> Text:
        words = self.state or "connecting"
        if self.state == "running":
            words += f" on {self.worker}" if self.worker else ""
            words += f" · attempt {self.attempt}" if self.attempt > 1 else ""
            left = self.left()
            if left is not None and self.step < self.total:
                words += f" · {in_words(left)} left"
        elif self.state == "queued" and self.reason:
            words += f" · {self.reason}"
        return Text(f"{MARKS.get(self.state, '○')} {words}", no_wrap=True, overflow="ellipsis")

    def _losses(self) -> str:
        parts = [f"loss {self.losses[-1]:.4f} {spark(self.losses)}"] if self.losses else []
        parts += [f"eval {self.evaluation:.4f}"] if self.evaluation is not None else []
        rate = self._tokens_per_second()
        parts += [f"{rate:,.0f} tokens/s"] if rate is not None else []
        return "  ".join(parts)

    def _passed(self) -> int | None:
        """Seconds between the points; events tell whole ones, and less than one says nothing."""
        if len(self.points) < 2:
            return None
        return self.points[-1][1] - self.points[0][1] or None

    def _tokens_per_second(self) -> float | None:
        passed = self._passed()
        if passed is None:
            return None
        first, last = self.points[0][2], self.points[-1][2]
        return (last - first) / passed if first is not None and last is not None else None


def spark(values: deque[float]) -> str:
    """A curve of one line."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in values)
