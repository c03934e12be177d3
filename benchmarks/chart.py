"""A bar chart as an SVG that can be read on light and on dark pages."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

WIDTH, LABEL_WIDTH, NUMBER_WIDTH = 720, 150, 130
BAR, GAP, HEAD = 22, 8, 40
# Of middle brightness, so that they stand out from white and from black.
TEXT, COLOURS = "#7d7d7d", ("#3b82f6", "#d97706")

Bars = Mapping[str, tuple[float, str]]
"""Length and caption by label."""


def bar_chart(title: str, groups: Mapping[str, Bars]) -> str:
    """Horizontal bars in groups, all on one scale from zero."""
    longest = max(length for bars in groups.values() for length, _ in bars.values())
    scale = (WIDTH - LABEL_WIDTH - NUMBER_WIDTH) / longest
    parts, top = [_text(0, 20, title, bold=True)], HEAD
    for number, (group, bars) in enumerate(groups.items()):
        parts.append(_text(0, top + 16, group, bold=True))
        top += BAR + GAP // 2
        for label, (length, caption) in bars.items():
            width, middle = length * scale, top + BAR - 6
            colour = COLOURS[number % len(COLOURS)]
            parts.append(_text(LABEL_WIDTH - 10, middle, label, anchor="end"))
            parts.append(
                f'<rect x="{LABEL_WIDTH}" y="{top}" width="{width:.1f}" height="{BAR}" rx="3" '
                f'fill="{colour}"/>'
            )
            parts.append(_text(LABEL_WIDTH + width + 8, middle, caption))
            top += BAR + GAP
        top += GAP
    body = "\n  ".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" '
        f'height="{top}" role="img" aria-label="{escape(title)}" '
        f'font-family="system-ui, sans-serif" font-size="14">\n  {body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="{TEXT}"{weight}>'
        f"{escape(text)}</text>"
    )
