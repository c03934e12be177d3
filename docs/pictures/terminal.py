"""A picture of a real command in a real terminal: what it printed, as an SVG."""

import os
import pty
import re
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI, TerminalTheme
from rich.text import Text

COLUMNS = 84
QUIET_SECONDS = 0.1
LIGHT = TerminalTheme(
    (255, 255, 255),
    (28, 27, 24),
    [
        (28, 27, 24),
        (179, 38, 30),
        (31, 111, 61),
        (122, 98, 0),
        (26, 95, 180),
        (157, 47, 127),
        (11, 107, 99),
        (85, 83, 76),
    ],
)
THEMES = {"light": LIGHT, "dark": MONOKAI}
ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07]*\x07")


class Screen:
    """The lines of a terminal; knows what a live region does to them, and no more."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = 0

    def feed(self, text: str) -> None:
        """Take what was printed."""
        place = 0
        for found in ESCAPE.finditer(text):
            self._write(text[place : found.start()])
            place = found.end()
            if found[2] == "A":
                self.row = max(0, self.row - int(found[1] or 1))
            elif found[2] == "K":
                self.lines[self.row] = ""
            elif found[2] == "m":
                self.lines[self.row] += found[0]
        self._write(text[place:])

    def _write(self, text: str) -> None:
        for part in re.split(r"(\r?\n|\r)", text):
            if part.endswith("\n"):
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif part == "\r":
                # A live region wipes a line before it writes it again.
                continue
            else:
                self.lines[self.row] += part


def watch(command: Sequence[str], environment: Mapping[str, str], until: str, folder: Path) -> str:
    """Run it in a terminal until the pattern is on the screen; the screen, with its colours."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "COLUMNS": str(COLUMNS), "LINES": "30", "TERM": "xterm-256color"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    printed = ""
    while True:
        is_quiet = not select.select([leader], [], [], QUIET_SECONDS)[0]
        # Between two redraws the screen is whole.
        if is_quiet and re.search(until, printed):
            break
        if is_quiet:
            continue
        try:
            printed += os.read(leader, 1 << 16).decode(errors="replace")
        except OSError:
            break
    process.send_signal(signal.SIGINT)
    process.wait()
    os.close(leader)
    screen = Screen()
    screen.feed(printed)
    return "\n".join(screen.lines).rstrip()


def draw(typed: str, printed: str, title: str, target: Path) -> None:
    """Write `<target>-light.svg` and `-dark.svg`."""
    for theme, colours in THEMES.items():
        console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"))  # noqa: SIM115
        console.print(Text(f"$ {typed}", "bold"))
        console.print(Text.from_ansi(printed))
        svg = console.export_svg(title=title, theme=colours, unique_id=target.name)
        path = target.with_name(f"{target.name}-{theme}.svg")
        path.write_text(without_fonts(svg), encoding="utf-8")


def without_fonts(svg: str) -> str:
    """Rich's picture asks a server for a font; a machine has one of its own."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "ui-monospace, Menlo, DejaVu Sans Mono")
