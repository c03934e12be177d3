"""Text for people goes to standard error, data to standard output."""

import json
import sys
from collections.abc import Iterable
from typing import Any


def put(value: Any, as_json: bool, text: str) -> None:
    """The API's own object, or what it says."""
    out = json.dumps(value, indent=2) if as_json else text
    sys.stdout.write(f"{out}\n" if out else "")


def put_rows(objects: list[Any], as_json: bool, rows: Iterable[Iterable[object]]) -> None:
    """The API's own objects, or a line of columns for each."""
    put(objects, as_json, "\n".join("\t".join(map(str, row)) for row in rows))


def say(text: str) -> None:
    """For people."""
    sys.stderr.write(f"{text}\n")
