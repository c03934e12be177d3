"""The page in the browser: static files only. All it shows comes from the public API."""

from fastapi import APIRouter, Request, Response

from app.page_files import PageFile, PageFiles
from core.errors import NotFound

DOCUMENT_PATHS = {
    "/": "jobs",
    "/new": "new",
    "/compare": "compare",
    "/workers": "workers",
    "/files": "files",
    "/keys": "keys",
    "/jobs/{job_id}": "job",
}
"""The page's own paths, with the view that each opens."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
DOCUMENT_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    "referrer-policy": "same-origin",
    "vary": "accept-encoding",
}
FILE_HEADERS = {
    "cache-control": "public, max-age=31536000, immutable",
    "vary": "accept-encoding",
}


def make_router(page: PageFiles) -> APIRouter:
    """The routes of the page; its files never change while the server runs."""
    router = APIRouter(include_in_schema=False)

    def add_document(path: str, view: str) -> None:
        def get_document(request: Request) -> Response:
            """The one HTML document; its script looks at the path."""
            document = page.views.get(view, page.document)
            return _packed(request, document, DOCUMENT_HEADERS)

        router.add_api_route(path, get_document, methods=["GET", "HEAD"])

    for path, view in DOCUMENT_PATHS.items():
        add_document(path, view)

    @router.get("/static/{version}/{name:path}")
    def get_static(request: Request, version: str, name: str) -> Response:
        """A file of the page; its version is in its address, so that it may be kept for good."""
        file = page.files.get(name)
        if file is None or version != page.version:
            raise NotFound(f"There is no such path: {request.url.path[:200]}")
        return _packed(request, file, FILE_HEADERS)

    return router


def _packed(request: Request, file: PageFile, headers: dict[str, str]) -> Response:
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(file.content, headers=headers, media_type=file.media_type)
    headers = headers | {"content-encoding": "gzip"}
    return Response(file.packed, headers=headers, media_type=file.media_type)
