"""For Prometheus and what reads its format."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.caller import check_owner
from app.exposition import Traffic, exposition
from app.services import CallerDep, ReadSession
from core.db import database_now
from core.measures import measure

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response)
def get_numbers(request: Request, session: ReadSession, caller: CallerDep) -> Response:
    """How the service and this process fare, in Prometheus' text format.

    For keys of the default project, of any scope: the numbers are of all projects.
    """
    check_owner(caller)
    traffic: Traffic = request.app.state.traffic
    found = measure(session, now=database_now(session))
    return Response(exposition(found, traffic), media_type=CONTENT_TYPE_LATEST)
