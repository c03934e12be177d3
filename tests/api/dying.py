"""The API, in a process that ends with its first job: after the commit, before the answer.

uvicorn --factory tests.api.dying:create_app
"""

import os
import signal

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import main


class _Dying:
    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def die_instead(message: Message) -> None:
            if message["type"] == "http.response.start":
                os.kill(os.getpid(), signal.SIGKILL)
            await send(message)

        is_create = scope["type"] == "http" and scope["method"] == "POST"
        await self._app(scope, receive, die_instead if is_create else send)


def create_app() -> ASGIApp:
    """The app as it is, but for its end."""
    app: FastAPI = main.create_app()
    return _Dying(app)
