"""Draws the two drawings of docs/how.md from the text below: `python docs/pictures/draw.py`.

A line is a box `name: x y width | first line | second line`, an arrow `name -> name: words`, or a
`"text" x y`. No style sheet and one grey for text, so that they look right on light and on dark.
"""

import re
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
ROW = 18
SMALL = ' font-size="12"'
Box = tuple[int, int, int, int]
"""x, y, width, height."""
TEXT, LINE, FILL = "#7d7d7d", "#8a8a8a", "#0f766e"

PARTS = """
size 1000 300
"clients" 90 20
"stateless, any number" 360 20
"the only truth" 620 20
"one a machine" 905 20
openai: 0 34 180 | OpenAI clients | Python, Node, curl
command: 0 109 180 | tuneyard, the page | the same API
hub: 0 184 180 | hf, transformers, peft | the Hub's protocol
api: 275 34 170 | API | checks, answers, streams
api2: 275 109 170 | API | no session, no state
api3: 275 184 170 | API | never imports torch
sql: 545 34 150 | SQL | jobs, leases, events
store: 545 109 150 | object store | files, checkpoints
broker: 545 184 150 | broker | doorbells: "look"
worker: 820 34 175 | worker | claims, supervises
child: 820 184 175 | training child | SFTTrainer, no network
openai -> api: HTTP
command -> api2: HTTP
hub -> api3: HTTP
api -> sql: rows
api2 -> store: bytes
api3 -> broker: ring
worker -> sql: claim, write
worker -> store:
broker -> worker:
worker -> child: pipes
"Rows are truth, messages are doorbells: one that is lost or comes twice changes nothing." 500 280
"""

LIFE = """
size 1000 290
check: 0 49 150 | validating_files | the API, at once
queued: 255 49 150 | queued | waits for room
running: 545 49 150 | running | an attempt, a lease
succeeded: 850 5 145 | succeeded
failed: 850 59 145 | failed | with what to do
cancelled: 850 134 145 | cancelled | by its user
paused: 400 174 150 | paused | saved, device free
check -> queued: accepted
queued -> running: a worker claims
running -> queued: its lease is over
running -> succeeded: last step published
running -> failed: no attempt is left
running -> cancelled: at a step
running -> paused: asked, or disk full
paused -> queued: resumed
"Whatever dies, the job is queued again, and goes on from its last published checkpoint." 500 270
"""


def main() -> None:
    """Write both."""
    for name, label, text in (
        ("parts", "The parts of Tuneyard and who talks to whom", PARTS),
        ("life", "The life of a job", LIFE),
    ):
        (HERE / f"{name}.svg").write_text(draw(text, label), encoding="utf-8")


def draw(text: str, label: str) -> str:
    """An SVG of the text."""
    boxes: dict[str, Box] = {}
    shapes, arrows = [], []
    width = height = 0
    for line in text.strip().splitlines():
        if found := re.fullmatch(r"size (\d+) (\d+)", line):
            width, height = map(int, found.groups())
        elif found := re.fullmatch(r'"(.+)" (\d+) (\d+)', line):
            shapes.append(words(found[1], int(found[2]), int(found[3])))
        elif found := re.fullmatch(r"(\w+) -> (\w+): ?(.*)", line):
            both = f"\n{found[2]} -> {found[1]}:" in text
            arrows.append(arrow(boxes[found[1]], boxes[found[2]], found[3], both=both))
        elif found := re.fullmatch(r"(\w+): (\d+) (\d+) (\d+) \| (.+)", line):
            x, y, wide = map(int, found.groups()[1:4])
            lines = found[5].split(" | ")
            boxes[found[1]] = (x, y, wide, 16 + ROW * len(lines))
            shapes.append(box(boxes[found[1]], lines))
        else:
            raise ValueError(line)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 0 {width + 8} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(label)}" '
        'font-family="system-ui, sans-serif" font-size="13">\n'
        '  <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>\n'
    )
    return head + "\n".join(arrows + shapes) + "\n</svg>\n"


def box(place: Box, lines: list[str]) -> str:
    """A rectangle with its lines, the first of them bold."""
    x, y, wide, high = place
    parts = [
        f'  <rect x="{x}" y="{y}" width="{wide}" height="{high}" rx="6" fill="{FILL}" '
        f'fill-opacity="0.12" stroke="{FILL}"/>'
    ]
    for i, line in enumerate(lines):
        weight = ' font-weight="600"' if i == 0 else SMALL
        parts.append(words(line, x + wide // 2, y + 21 + ROW * i, weight))
    return "\n".join(parts)


def arrow(start: Box, end: Box, text: str, *, both: bool) -> str:
    """A line from the nearest side of one box to that of another; `both` leaves room for two."""
    x1, y1 = side(start, end)
    x2, y2 = side(end, start)
    apart = (-10 if x1 < x2 else 10) if both else 0
    line = (
        f'  <path d="M{x1} {y1 + apart}L{x2} {y2 + apart}" stroke="{LINE}" fill="none" '
        'marker-end="url(#tip)"/>'
    )
    if not text:
        return line
    if x1 == x2:
        return f"{line}\n{words(text, x1 + 24, (y1 + y2) // 2)}"
    # Beside a steep line, above a flat one, below one that has another above it.
    x, y = (x1 + x2) // 2, (y1 + y2) // 2
    below = 16 if apart > 0 or y2 - y1 > 30 else -16 if y1 - y2 > 30 else -6
    if abs(y2 - y1) > 70:
        x += 58 if x2 < x1 else -64
    return f"{line}\n{words(text, x, y + apart + below, SMALL)}"


def side(this: Box, other: Box) -> tuple[int, int]:
    """The middle of the side that faces the other box."""
    x, y, wide, high = this
    if other[0] >= x + wide:
        return x + wide, y + high // 2
    if other[0] + other[2] <= x:
        return x, y + high // 2
    return x + wide // 2, y + high if other[1] > y else y


def words(text: str, x: int, y: int, more: str = "") -> str:
    """Text around a point."""
    return f'  <text x="{x}" y="{y}" text-anchor="middle" fill="{TEXT}"{more}>{escape(text)}</text>'


if __name__ == "__main__":
    main()
