"""What the demo looks like: calm lines, and one that moves while the model trains."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

BLOCKS = "".join(chr(0x2581 + height) for height in range(8))
CURVE_WIDTH = 24
LABEL_WIDTH = 10


class Screen:
    """Writes to a terminal in colours, and plain lines elsewhere."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(highlight=False)

    def title(self, text: str) -> None:
        """The first line."""
        self.console.print(f"\n[bold]{escape(text)}[/]\n")

    def done(self, label: str, text: str, detail: str = "") -> None:
        """A step that is over."""
        mark = self._or_ascii("\u2713", "*")
        more = f"  [dim]{escape(detail)}[/]" if detail else ""
        self.console.print(
            f"[green]{mark}[/] [bold]{label:{LABEL_WIDTH}}[/]{escape(text)}{more}", soft_wrap=True
        )

    @contextmanager
    def busy(self, label: str, text: str) -> Iterator[None]:
        """A step that takes a while."""
        line = f"[bold]{label:{LABEL_WIDTH}}[/][dim]{escape(text)}[/]"
        if self.console.is_terminal:
            with self.console.status(line):
                yield
        else:
            self.console.print(f"  {line}", soft_wrap=True)
            yield

    def say(self, text: str, style: str = "") -> None:
        """A line as it is; only the terminal may break it, so that it can be copied."""
        self.console.print(Text(text, style), soft_wrap=True)

    def result(self, text: str) -> None:
        """What all of it was for."""
        self.console.print(f"[bold green]{escape(text)}[/]")

    def failure(self, message: str, hint: str) -> None:
        """The last words when something went wrong."""
        self.console.print(
            f"\n[bold red]The demo did not work.[/] {escape(message)}", soft_wrap=True
        )
        if hint:
            self.console.print(escape(hint), soft_wrap=True)

    def answers(self, question: str, before: str, after: str) -> None:
        """One question with the answers of both models."""
        table = Table.grid(padding=(0, 2), pad_edge=False)
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        table.add_row("before", Text(" ".join(before.split()), "dim"))
        table.add_row("after", Text(" ".join(after.split()), "green"))
        self.console.print(f"  [bold]{escape(question)}[/]")
        self.console.print(Padding(table, (0, 0, 1, 4), expand=False))

    def curve(self, losses: list[float]) -> str:
        """The losses so far as a line of blocks; nothing where these cannot be shown."""
        if len(losses) < 2 or not self._or_ascii(BLOCKS, ""):
            return ""
        width = min(CURVE_WIDTH, len(losses))
        picked = [losses[i * (len(losses) - 1) // (width - 1)] for i in range(width)]
        low, high = min(picked), max(picked)
        scale = (len(BLOCKS) - 1) / (high - low or 1)
        return "".join(BLOCKS[round((loss - low) * scale)] for loss in picked)

    def _or_ascii(self, text: str, otherwise: str) -> str:
        try:
            text.encode(self.console.encoding)
        except UnicodeEncodeError:
            return otherwise
        return text


class TrainingView:
    """Shows the metrics of a training as they come in, and remembers the losses."""

    def __init__(self, screen: Screen):
        self._screen = screen
        self._first: tuple[float, int] | None = None
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self.losses: list[float] = []
        self.step = 0

    @contextmanager
    def shown(self, total_steps: int) -> Iterator[None]:
        """One line that is updated, on a terminal."""
        if not self._screen.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("  [bold]Training[/]"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=self._screen.console, transient=True) as self._progress:
            self._task = self._progress.add_task("[dim]waiting for its turn[/]", total=total_steps)
            yield

    def update(self, data: dict[str, Any]) -> None:
        """Show the data of a metrics event."""
        if "train_loss" not in data:
            return
        self.step, total = data["step"], data["total_steps"]
        self.losses.append(data["train_loss"])
        left = self._time_left(total)
        step, loss = f"step {self.step:>2}/{total}", f"loss {self.losses[-1]:.2f}"
        if self._progress is None or self._task is None:
            self._screen.say(f"  {step}  {loss}  {left}")
            return
        curve = f"[cyan]{self._screen.curve(self.losses)}[/]"
        text = f"{step}  [bold]{loss}[/]  {left:14}  {curve}"
        self._progress.update(self._task, completed=self.step, description=text)

    def news(self, message: str) -> None:
        """Say what goes on before there are metrics."""
        if self._progress is not None and self._task is not None and not self.losses:
            self._progress.update(self._task, description=f"[dim]{escape(message)}[/]")

    def _time_left(self, total: int) -> str:
        """By the pace since the first metrics came in."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, self.step)
            return ""
        seconds = (now - self._first[0]) / max(self.step - self._first[1], 1)
        return f"{duration(seconds * (total - self.step))} left" if self.step < total else ""


def duration(seconds: float) -> str:
    """Seconds in words for people: 42 s, 1 min 05 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
