"""Between a real server and its clients: notes what they ask for, and cuts connections."""

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(slots=True)
class Seen:
    """One request, and how much was sent in answer."""

    method: str
    path: str
    query: str
    range: str | None
    status: int = 0
    sent: int = 0


class Cut(ConnectionError):
    """The connection ends here."""


class Tap:
    """Wraps an app; `seen` is everything in order of arrival."""

    def __init__(self, app: ASGIApp):
        self._app = app
        self.seen: list[Seen] = []
        self.cut_at: dict[str, int] = {}
        """Where to break off the next download of a file, in bytes, by the end of its path."""

    def since(self, mark: str) -> list[Seen]:
        """What came between a mark of the last client and the next one."""
        marks = [n for n, seen in enumerate(self.seen) if seen.path == "/healthz"]
        wanted = [n for n in marks if self.seen[n].query == f"mark={mark}"]
        start = wanted[-1]
        end = next((n for n in marks if n > start), len(self.seen))
        return self.seen[start + 1 : end]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        query = scope["query_string"].decode()
        seen = Seen(scope["method"], scope["path"], query, headers.get("range"))
        self.seen.append(seen)
        name = next((name for name in self.cut_at if scope["path"].endswith(name)), None)
        is_download = seen.method == "GET"

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            if message["type"] == "http.response.body":
                seen.sent += len(message.get("body", b""))
            await send(message)
            if is_download and name is not None and seen.sent > self.cut_at.get(name, 2**62):
                del self.cut_at[name]
                raise Cut

        await self._app(scope, receive, noted)
