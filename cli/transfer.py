"""Bytes to the server and back: uploads in parts and downloads, both of which go on after a break.

What was sent of a large file is noted beside the user's other state, part by part with its hash.
The next run reads the file again, sends what is new or has changed, and leaves out the rest.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cli.client import Client
from cli.config import state_folder, write_private
from cli.errors import Exit, UserError
from cli.output import say

UPLOAD_TIMEOUT = httpx.Timeout(None, connect=5)
"""The answer to an upload comes when every line has been checked."""
PART_BYTES = 32 * 1024**2
"""Larger files are sent in parts, each of which can be sent again."""
TRIES = 5
TOLD_SECONDS = 30.0
Tell = Callable[[int], None]
"""Takes the bytes that are done so far."""


def upload(client: Client, path: Path, *, part_bytes: int = PART_BYTES) -> Any:
    """The file object of a new upload to train on."""
    size = path.stat().st_size
    if size <= part_bytes:
        with path.open("rb") as source:
            sending = {"files": {"file": (path.name, source)}, "data": {"purpose": "fine-tune"}}
            return client.call("POST", "/v1/files", timeout=UPLOAD_TIMEOUT, **sending)
    sent = _Sent.of(client.url, path, size)
    try:
        return _upload_parts(client, path, sent, part_bytes)
    except UserError as error:
        if not sent.is_resumed or error.code not in (Exit.NOT_FOUND, Exit.CONFLICT):
            raise
        # What was begun is over: an upload has an hour.
        return _upload_parts(client, path, _Sent(sent.note, size), part_bytes)
    except KeyboardInterrupt:
        say("Stopped. Within the hour the next run sends only what is missing.")
        raise


@dataclass(slots=True)
class _Sent:
    """What the server has of a file."""

    note: Path
    size: int
    upload_id: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    """Ids of stored parts by their place and hash."""
    is_resumed: bool = False

    @classmethod
    def of(cls, url: str, path: Path, size: int) -> "_Sent":
        name = hashlib.sha256(f"{url}\n{path.resolve()}\n{size}".encode()).hexdigest()[:32]
        note = state_folder() / "uploads" / f"{name}.json"
        try:
            kept = json.loads(note.read_text())
            return cls(note, size, kept["upload_id"], kept["parts"], is_resumed=True)
        except (OSError, ValueError, KeyError, TypeError):
            return cls(note, size)

    def keep(self) -> None:
        kept = {"upload_id": self.upload_id, "parts": self.parts}
        write_private(self.note, json.dumps(kept))


def _upload_parts(client: Client, path: Path, sent: _Sent, part_bytes: int) -> Any:
    about = {"filename": path.name, "purpose": "fine-tune", "bytes": sent.size}
    if not sent.upload_id:
        made = client.post("/v1/uploads", about | {"mime_type": "application/octet-stream"})
        sent.upload_id = made["id"]
    url, ids = f"/v1/uploads/{sent.upload_id}", []
    whole = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as source, progress(f"Uploading {path.name}", sent.size) as tell:
        for place, part in enumerate(iter(lambda: source.read(part_bytes), b"")):
            whole.update(part)
            name = f"{place}-{hashlib.sha256(part).hexdigest()}"
            if name not in sent.parts:
                sent.parts[name] = _send_part(client, url, part)
                sent.keep()
            ids.append(sent.parts[name])
            tell(source.tell())
    body = {"part_ids": ids, "md5": whole.hexdigest()}
    done = client.call("POST", f"{url}/complete", json=body, timeout=UPLOAD_TIMEOUT)
    sent.note.unlink(missing_ok=True)
    return client.get(f"/v1/files/{done['file']['id']}")


def _send_part(client: Client, url: str, part: bytes) -> str:
    """The id of a stored part; a connection that breaks costs this part and no other."""
    sent = again(lambda: client.call("POST", f"{url}/parts", files={"data": part}))
    return str(sent["id"])


def again(do: Callable[[], Any]) -> Any:
    """Do it until the server is there, for half a minute."""
    for attempt in range(TRIES):
        try:
            return do()
        except UserError as error:
            if error.code is not Exit.NO_SERVER or attempt == TRIES - 1:
                raise
            time.sleep(2**attempt)
    raise AssertionError


def download(client: Client, path: str, target: Path, *, size: int, sha256: str) -> None:
    """A file, from where an earlier download stopped, verified before it appears."""
    if target.is_file() and file_sha256(target) == sha256:
        return
    partial = target.with_name(f"{target.name}.{sha256[:8]}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    with progress(target.name, size) as tell:
        again(lambda: _fetch(client, path, partial, size, sha256, tell))
    partial.touch()
    if file_sha256(partial) != sha256:
        partial.unlink()
        raise UserError(f"{target.name} arrived damaged.", "Download it again.")
    partial.replace(target)


def _fetch(client: Client, path: str, partial: Path, size: int, sha256: str, tell: Tell) -> None:
    start = partial.stat().st_size if partial.exists() else 0
    if start >= size:
        return
    part = {"range": f"bytes={start}-", "if-range": f'"{sha256}"'} if start else {}
    with client.stream(path, **part) as response:
        is_resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        with partial.open("ab" if is_resumed else "wb") as file:
            tell(file.tell())
            for chunk in response.iter_bytes():
                file.write(chunk)
                tell(file.tell())


@contextmanager
def progress(what: str, size: int) -> Iterator[Tell]:
    """A bar on a terminal, a line now and then elsewhere; tell it the bytes that are done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _in_lines(what, size)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=size)
        yield lambda done: bar.update(task, completed=done)


def file_sha256(path: Path) -> str:
    """Of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_lines(what: str, size: int) -> Tell:
    last = time.monotonic()

    def tell(done: int) -> None:
        nonlocal last
        if time.monotonic() - last >= TOLD_SECONDS:
            last = time.monotonic()
            sys.stderr.write(f"{what}: {done / max(1, size):.0%} of {size / 1e6:,.1f} MB\n")

    return tell
