"""How many requests a key may send, and hold open: counted in the memory of this process."""

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.caller import Caller
from app.problems import problem
from core.errors import RateLimited

LIMITED = "/v1/"
MAX_STREAMS = 1_000
"""Of all keys together, at this process."""
STREAM_RETRY_SECONDS = 5
MAX_KEYS = 10_000
"""Buckets in memory; whoever was silent for longest loses theirs."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left to a key after a request."""

    is_allowed: bool
    limit: int
    remaining: int
    full_in_seconds: float
    next_in_seconds: float

    def headers(self) -> dict[str, str]:
        """OpenAI's headers, and when to come again after too many requests."""
        found = {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.remaining),
            "x-ratelimit-reset-requests": f"{math.ceil(self.full_in_seconds * 1000)}ms",
        }
        if not self.is_allowed:
            milliseconds = math.ceil(self.next_in_seconds * 1000)
            found["retry-after-ms"] = str(milliseconds)
            found["retry-after"] = str(math.ceil(milliseconds / 1000))
        return found


class Buckets:
    """A bucket of `per_minute` requests for each key, which fills up again within a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        self._limit = per_minute
        self._rate = per_minute / 60
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> Standing:
        """Take one request out of the bucket of a key."""
        now = self._clock()
        with self._lock:
            level, since = self._levels.pop(key, (float(self._limit), now))
            level = min(self._limit, level + (now - since) * self._rate)
            is_allowed = level >= 1
            level -= is_allowed
            self._levels[key] = (level, now)
            if len(self._levels) > MAX_KEYS:
                self._levels.popitem(last=False)
        return Standing(
            is_allowed,
            self._limit,
            int(level),
            (self._limit - level) / self._rate,
            max(0.0, 1 - level) / self._rate,
        )


class Places:
    """So many streams at the same time for each reader. Belongs to the event loop."""

    def __init__(self, each: int, together: int = MAX_STREAMS):
        self.each = each
        self._together = together
        self._taken: Counter[Hashable] = Counter()

    def take(self, who: Hashable) -> bool:
        """Take a place if there is one."""
        if self._taken[who] >= self.each or self._taken.total() >= self._together:
            return False
        self._taken[who] += 1
        return True

    def give_back(self, who: Hashable) -> None:
        """Leave a place that was taken."""
        self._taken[who] -= 1
        if not self._taken[who]:
            del self._taken[who]


class LimitedStream(StreamingResponse):
    """A stream that holds a place while it is sent, or 429 when there is none."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        *,
        places: Places,
        who: Hashable,
        media_type: str,
        headers: Mapping[str, str],
    ):
        super().__init__(content, media_type=media_type, headers=headers)
        self._places, self._who = places, who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, or refuse it."""
        if not self._places.take(self._who):
            refusal = problem(
                RateLimited(
                    f"This key may hold {self._places.each:,} streams open, and this server "
                    f"{MAX_STREAMS:,}. Close one, or ask for pages of events instead."
                )
            )
            refusal.headers["retry-after"] = str(STREAM_RETRY_SECONDS)
            await refusal(scope, receive, send)
            return
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._places.give_back(self._who)


class RateLimitMiddleware:
    """Refuses what is too much, and tells everybody how much is left. Keys were checked before."""

    def __init__(self, app: ASGIApp, per_minute: int):
        self._app = app
        self._buckets = Buckets(per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http" or not scope["path"].startswith(LIMITED):
            await self._app(scope, receive, send)
            return
        caller: Caller = scope["state"]["caller"]
        standing = self._buckets.take(f"{caller.project_id} {caller.key_id}")
        headers = standing.headers()

        async def send_with_standing(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        if standing.is_allowed:
            await self._app(scope, receive, send_with_standing)
            return
        refusal = RateLimited(
            f"This key may send {standing.limit:,} requests in a minute. "
            f"Try again in {standing.next_in_seconds:.3f} s."
        )
        await problem(refusal)(scope, receive, send_with_standing)
