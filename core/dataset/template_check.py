"""Compiles and renders templates on trial: the work of a process of its own.

To compile is to compute: jinja2 folds what is constant, and `9 ** 9 ** 9` is.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from core.dataset.chat import ChatTemplate
from core.dataset.examples import ChatExample
from core.dataset.shapes import Row
from core.errors import InvalidTemplate, Unavailable
from core.isolated import Exhausted, Limits, run_isolated
from core.template import compile_template

LIMITS = Limits(seconds=5, memory_bytes=512 * 1024**2)
CHAT = ChatExample([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
TURN_SECONDS = 10
_TURNS = threading.BoundedSemaphore(2)
"""Hostile templates take their whole limit; they may not take all threads with it."""


def check_chat_template(source: str) -> None:
    """Try a chat template; InvalidTemplate when that fails or takes too much."""
    _try({"chat": source}, "the chat template", "chat_template")


def check_row_template(source: str, samples: Sequence[Row]) -> None:
    """Try a template of rows on some of them; InvalidTemplate as above."""
    _try({"row": source, "samples": samples}, "the template", "template")


def _try(request: dict[str, Any], what: str, param: str) -> None:
    if not _TURNS.acquire(timeout=TURN_SECONDS):
        raise Unavailable("Too many templates are being checked. Try again in a moment.")
    try:
        run_isolated("core.dataset.template_check", request, LIMITS, reads=[])
    except Exhausted as error:
        raise InvalidTemplate(f"{what} takes too much {error.what}", param=param) from error
    finally:
        _TURNS.release()


def work(request: dict[str, Any], chunks: Iterator[bytes]) -> dict[str, Any]:
    """Nothing; what is wrong is raised."""
    if "chat" in request:
        template = ChatTemplate(request["chat"], {})
        # Many refuse a chat that is not to their taste; what counts is that they come to an end.
        with suppress(InvalidTemplate):
            template.text(CHAT)
        return {}
    rows = compile_template(request["row"])
    for sample in request["samples"]:
        rows.render(sample)
    return {}
