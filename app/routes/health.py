"""For load balancers and process managers."""

from fastapi import APIRouter

from app.services import ServicesDep
from core.errors import Unavailable
from core.migrate import is_current

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def is_alive() -> dict[str, str]:
    """Whether the process answers, however busy its threads are."""
    return {"status": "ok"}


@router.get("/readyz")
def is_ready(services: ServicesDep) -> dict[str, str]:
    """Whether requests can be served: the database is there, at the schema of this version."""
    if not services.database.is_alive():
        raise Unavailable("The database does not answer.")
    if not is_current(services.database):
        raise Unavailable("The database is of another version; run `tuneyard db upgrade`.")
    return {"status": "ready"}
