"""The documentation, as pages."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from app.guide import BASE, FIRST, PICTURES, Guide
from app.routes.page import DOCUMENT_HEADERS
from core.errors import NotFound


def make_router(version: str) -> APIRouter:
    """The routes of the guide, whose pages are rendered when the first one is asked for."""
    router = APIRouter(include_in_schema=False)

    @router.get(BASE)
    def get_guide() -> Response:
        """The first page."""
        return RedirectResponse(f"{BASE}/{FIRST}")

    @router.get(BASE + "/{name:path}")
    def get_page(request: Request, name: str) -> Response:
        """A page or a picture, by its name among those that were read."""
        guide = Guide.load(version)
        if name in guide.pages:
            return Response(guide.pages[name], headers=DOCUMENT_HEADERS, media_type="text/html")
        if name in guide.pictures:
            kind = PICTURES["." + name.rpartition(".")[2]]
            return Response(guide.pictures[name], headers=DOCUMENT_HEADERS, media_type=kind)
        raise NotFound(f"There is no such page: {request.url.path[:200]}")

    return router
