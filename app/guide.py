"""The documentation as pages that the server itself serves, so that it is there offline."""

import html
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

HERE = Path(__file__).parent
FOLDERS = (HERE.parent / "docs", HERE / "page" / "guide")
"""In the repository and the image, and in the wheel, where `python -m app.vendor` puts them."""
BASE = "/docs/guide"
FIRST = "index"
PICTURES = {".svg": "image/svg+xml", ".png": "image/png"}

MISSING = "The documentation was not packed with this server: `python -m app.vendor` copies it."

LAYOUT = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Tuneyard</title>
<link rel="icon" href="/static/{version}/icon.svg">
<link rel="stylesheet" href="/static/{version}/css/tokens.css">
<link rel="stylesheet" href="/static/{version}/css/guide.css"></head><body>
<nav aria-label="Guide"><a href="/">Tuneyard</a><ul>{contents}</ul></nav>
<main>{body}</main></body></html>
"""


@dataclass(frozen=True, slots=True)
class Guide:
    """Pages by name, like `data` or `adr/0001-...`, and pictures by path."""

    pages: Mapping[str, str]
    pictures: Mapping[str, bytes]

    @classmethod
    @cache
    def load(cls, version: str, folders: tuple[Path, ...] = FOLDERS) -> "Guide":
        """Render all pages, once; `version` is that of the page's own files."""
        folder = next((folder for folder in folders if folder.is_dir()), None)
        texts = dict(_texts(folder)) if folder is not None else {FIRST: f"# Guide\n\n{MISSING}\n"}
        titles = {name: _title(name, text) for name, text in texts.items()}
        groups = _groups(texts[FIRST], titles)
        pages = {name: _page(name, text, titles, groups, version) for name, text in texts.items()}
        return cls(pages, dict(_pictures(folder)) if folder is not None else {})


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*.md")):
        yield path.relative_to(folder).with_suffix("").as_posix(), path.read_text(encoding="utf-8")


def _pictures(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in PICTURES:
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def _title(name: str, text: str) -> str:
    heading = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
    return heading.group(1) if heading else name


def _groups(text: str, titles: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The pages that the first one lists, below its headings: the contents of the guide."""
    groups: list[tuple[str, list[str]]] = []
    for heading, name in re.findall(r"^## (.+)$|^- \[[^]]+\]\((\S+)\.md\)", text, re.MULTILINE):
        if heading:
            groups.append((heading, []))
        elif groups and name in titles:
            groups[-1][1].append(name)
    return groups


def _page(
    name: str,
    text: str,
    titles: Mapping[str, str],
    groups: Sequence[tuple[str, Sequence[str]]],
    version: str,
) -> str:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    _name_headings(tokens)
    for token in _all(tokens):
        _settle(token, name, titles)
    return LAYOUT.format(
        title=html.escape(titles[name]),
        version=version,
        contents=_contents(name, titles, groups),
        body=markdown.renderer.render(tokens, markdown.options, {}),
    )


def _contents(
    current: str, titles: Mapping[str, str], groups: Sequence[tuple[str, Sequence[str]]]
) -> str:
    items = [_item(FIRST, current, titles)]
    for heading, names in groups:
        inner = "".join(_item(name, current, titles) for name in names)
        items.append(f"<li><b>{html.escape(heading)}</b><ul>{inner}</ul></li>")
    return "".join(items)


def _item(name: str, current: str, titles: Mapping[str, str]) -> str:
    mark = ' aria-current="page"' if name == current else ""
    return f'<li><a href="{BASE}/{name}"{mark}>{html.escape(titles[name])}</a></li>'


def _all(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or [])


def _name_headings(tokens: list[Token]) -> None:
    """Ids as those of GitHub, so that the same links work in both places."""
    for token, content in pairwise(tokens):
        if token.type == "heading_open":
            kept = re.sub(r"[^\w\- ]", "", content.content.lower())
            token.attrSet("id", kept.replace(" ", "-"))


def _settle(token: Token, page: str, titles: Mapping[str, str]) -> None:
    """Lead links to where the pages are served; the policy forbids styles in the text."""
    token.attrs.pop("style", None)
    if token.type == "link_open":
        target = _target(str(token.attrs["href"]), page, titles)
        token.attrs.pop("href")
        if target is not None:
            token.attrSet("href", target)
    if token.type == "image":
        picture = posixpath.normpath(
            posixpath.join(posixpath.dirname(page), str(token.attrs["src"]))
        )
        token.attrSet("src", f"{BASE}/{picture}")


def _target(href: str, page: str, titles: Mapping[str, str]) -> str | None:
    """None for what is in the repository and not in the guide."""
    if re.match(r"https?://|#", href):
        return href
    path, hash_mark, fragment = href.partition("#")
    found = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)).removesuffix(".md")
    return f"{BASE}/{found}{hash_mark}{fragment}" if found in titles else None
