"""The ASGI app: `uvicorn --factory app.main:create_app`."""

import importlib.metadata
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp

from app import problems
from app.chores import Chores
from app.exposition import Traffic
from app.limits import RateLimitMiddleware
from app.middleware import NulMiddleware, RequestIdMiddleware, TooLargeMiddleware
from app.page_files import PageFiles
from app.routes import (
    catalog,
    checkpoints,
    files,
    guide,
    health,
    hub,
    jobs,
    keys,
    metrics,
    page,
    permissions,
    plan,
    tokens,
    uploads,
    watching,
    webhooks,
)
from app.security import SecurityMiddleware
from app.services import Services
from app.stopping import on_stop_signal
from core.logs import set_up_logging
from core.settings import Settings


class _Api(FastAPI):
    """FastAPI inside of our middleware: what it answers by itself, outside of its own, too."""

    def __init__(self, settings: Settings, **options: Any):
        super().__init__(**options)
        self._settings = settings
        self.state.traffic = Traffic()

    def build_middleware_stack(self) -> ASGIApp:
        """The last one put around is the first to see a request."""
        app: ASGIApp = NulMiddleware(super().build_middleware_stack())
        if self._settings.rate_limit_per_minute:
            app = RateLimitMiddleware(app, self._settings.rate_limit_per_minute)
        app = SecurityMiddleware(app, self._settings)
        return RequestIdMiddleware(TooLargeMiddleware(app), self.state.traffic)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the app; settings come from the environment unless they are given."""
    settings = settings or Settings.from_environment()
    set_up_logging()

    # It would describe the database on every look at /readyz.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It would write down queries, in which some put their key; app.access tells the rest.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = Services.open(settings)
        app.state.services = services
        chores = Chores(services)
        app.state.chores = chores
        chores.start()
        with on_stop_signal(services.hub.close):
            yield
        chores.close()
        services.hub.close()
        services.close()

    app = _Api(
        settings,
        title="Tuneyard",
        version=importlib.metadata.version("tuneyard"),
        summary="Fine-tuning by OpenAI's API, with TRL's own argument names.",
        lifespan=lifespan,
        max_body_size=settings.max_body_bytes,
    )
    files_of_page = PageFiles.load()
    routers = (
        files.make_router(settings.max_upload_bytes),
        uploads.router,
        plan.router,
        tokens.router,
        jobs.router,
        watching.router,
        checkpoints.router,
        permissions.router,
        catalog.router,
        keys.router,
        webhooks.router,
        health.router,
        metrics.router,
        hub.router,
        guide.make_router(files_of_page.version),
        page.make_router(files_of_page),
    )
    for router in routers:
        app.include_router(router)
    app.state.routes = [
        route for owner in (app, *routers) for route in owner.routes if isinstance(route, Route)
    ]
    problems.install(app)
    return app
