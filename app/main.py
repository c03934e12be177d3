"""The ASGI app: `uvicorn --factory app.main:create_app`."""

import importlib.metadata
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app import problems
from app.middleware import RequestIdMiddleware, TooLargeMiddleware
from app.routes import catalog, checkpoints, files, health, jobs, watching
from app.security import SecurityMiddleware
from app.services import Services
from core.settings import Settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the app; settings come from the environment unless they are given."""
    settings = settings or Settings.from_environment()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        services = Services.open(settings)
        app.state.services = services
        yield
        await services.hub.close()
        services.close()

    app = FastAPI(
        title="Tuneyard",
        version=importlib.metadata.version("tuneyard"),
        summary="Fine-tuning by OpenAI's API, with TRL's own argument names.",
        lifespan=lifespan,
        max_body_size=settings.max_body_bytes,
    )
    for router in (
        files.make_router(settings.max_upload_bytes),
        jobs.router,
        watching.router,
        checkpoints.router,
        catalog.router,
        health.router,
    ):
        app.include_router(router)
    problems.install(app)
    # The last one added is the first to see a request.
    app.add_middleware(SecurityMiddleware, settings=settings)
    app.add_middleware(TooLargeMiddleware)
    app.add_middleware(RequestIdMiddleware)
    return app
