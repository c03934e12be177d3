"""Ends what is being sent to whoever may not come in any more.

A request is let in once, but a stream of events or a large download goes on for long after. So a
process asks every few seconds, once for all that it sends, whose keys and sessions still hold.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.caller import Caller
from core.errors import TuneyardError

logger = logging.getLogger(__name__)

CHECK_SECONDS = 5.0
LAST_WORD_SECONDS = 1.0
"""For the end of a stream, which a reader who does not read would never take."""
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class Visits:
    """Who is being sent something that goes on. Belongs to the event loop."""

    def __init__(self, still_welcome: Callable[[Collection[Caller]], Collection[Caller]]):
        """`still_welcome` is asked in a thread, and tells which of these callers may stay."""
        self._still_welcome = still_welcome
        self._open: dict[asyncio.Timeout, Caller] = {}
        self._task: asyncio.Task[None] | None = None

    async def serve(
        self, app: ASGIApp, caller: Caller, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve one request to the end, or until its caller has to leave.

        Only an answer that has begun is cut off: before, a transaction may be open.
        """
        is_stream = is_complete = False
        visit = asyncio.timeout(None)

        async def send_to_visitor(message: Message) -> None:
            nonlocal is_stream, is_complete
            if message["type"] == "http.response.start":
                media_type = Headers(raw=message["headers"]).get("content-type", "")
                is_stream = media_type.startswith("text/event-stream")
            elif message.get("more_body", False):
                self._stay(visit, caller)
            else:
                is_complete = True
                self._open.pop(visit, None)
            await send(message)

        try:
            async with visit:
                await app(scope, receive, send_to_visitor)
        except TimeoutError:
            if not visit.expired():
                raise
            logger.info("%s ends: %s may not read any more", scope["path"], caller.key_id)
            # A download that was cut off must not look whole: its connection breaks instead.
            if is_stream and not is_complete:
                with suppress(TimeoutError):
                    await asyncio.wait_for(send(END), LAST_WORD_SECONDS)
        finally:
            self._open.pop(visit, None)

    def _stay(self, visit: asyncio.Timeout, caller: Caller) -> None:
        self._open[visit] = caller
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while self._open:
            await asyncio.sleep(CHECK_SECONDS)
            callers = set(self._open.values())
            try:
                welcome = await run_in_threadpool(self._still_welcome, callers)
            except TuneyardError as error:
                logger.warning("nobody can tell whose keys still hold: %s", error.message)
                continue
            now = asyncio.get_running_loop().time()
            for visit, caller in list(self._open.items()):
                if caller in callers and caller not in welcome:
                    del self._open[visit]
                    visit.reschedule(now)
