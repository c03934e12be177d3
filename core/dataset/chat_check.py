"""Compiles and renders one chat template: the work of a process of its own.

To compile is to compute: jinja2 folds what is constant, and `9 ** 9 ** 9` is.
"""

import threading
from contextlib import suppress
from typing import Any

from core.dataset.chat import ChatTemplate
from core.dataset.examples import ChatExample
from core.errors import InvalidTemplate, Unavailable
from core.isolated import Exhausted, Limits, run_isolated, serve

LIMITS = Limits(seconds=5, memory_bytes=512 * 1024**2)
CHAT = ChatExample([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
TURN_SECONDS = 10
_TURNS = threading.BoundedSemaphore(2)
"""Hostile templates take their whole limit; they may not take all threads with it."""


def check_chat_template(source: str) -> None:
    """Try a template in another process; InvalidTemplate when that fails or takes too much."""
    if not _TURNS.acquire(timeout=TURN_SECONDS):
        raise Unavailable("Too many chat templates are being checked. Try again in a moment.")
    try:
        run_isolated("core.dataset.chat_check", {"source": source}, LIMITS, reads=[])
    except Exhausted as error:
        raise InvalidTemplate(
            f"the chat template takes too much {error.what}", param="chat_template"
        ) from error
    finally:
        _TURNS.release()


def _check(request: dict[str, Any]) -> dict[str, Any]:
    template = ChatTemplate(request["source"], {})
    # Many refuse a chat that is not to their taste; what counts is that they come to an end.
    with suppress(InvalidTemplate):
        template.text(CHAT)
    return {}


if __name__ == "__main__":
    serve(_check)
