"""What the handlers work with: opened when the server starts, closed when it stops."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from app.caller import Caller, CallerDatabase
from app.limits import Places
from app.stream import Hub
from core.db import Database
from core.doorbell import Doorbell
from core.egress import Egress
from core.hub.hashes import HashIndex
from core.hub_client import HubClient
from core.hub_tokenizer import HubTokenizers
from core.plan.reader import FactsReader
from core.settings import Settings
from core.storage import Storage, open_storage


@dataclass(frozen=True, slots=True)
class Services:
    """The parts behind the API."""

    settings: Settings
    database: Database
    storage: Storage
    doorbell: Doorbell
    hub: Hub
    hashes: HashIndex
    facts: FactsReader
    tokenizers: HubTokenizers
    egress: Egress
    places: Places

    @classmethod
    def open(cls, settings: Settings) -> "Services":
        """Open everything that the settings name; nothing has to be reachable yet."""
        database = Database(settings.database_url)
        storage = open_storage(
            settings.storage_url,
            s3_endpoint=settings.s3_endpoint,
            s3_access_key=settings.s3_access_key,
            s3_secret_key=settings.s3_secret_key,
            s3_region=settings.s3_region,
        )
        hashes = HashIndex(settings.home / "model-hashes.json")
        doorbell = Doorbell(settings.redis_url)
        hub_client = HubClient(settings.hf_endpoint, settings.hf_token)
        facts = FactsReader(settings.model_roots, hub_client)
        tokenizers = HubTokenizers(settings.home / "tokenizers", hub_client)
        egress = Egress(settings.egress_allow)
        hub, places = Hub(database), Places(settings.max_streams_per_key)
        return cls(
            settings, database, storage, doorbell, hub, hashes, facts, tokenizers, egress, places
        )

    def close(self) -> None:
        """Close everything."""
        self.hashes.close()
        self.doorbell.close()
        self.database.close()


# These are asynchronous because the framework calls what is not from a thread, at every request.
async def services_of(request: Request) -> Services:
    """The services of the app that serves this request."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]


async def _seen_by(request: Request, services: ServicesDep, caller: CallerDep) -> CallerDatabase:
    action = f"{request.method} {request.url.path}"
    return CallerDatabase(services.database, caller, action)


DatabaseDep = Annotated[CallerDatabase, Depends(_seen_by)]
"""For handlers that open their transactions by themselves."""


def _reading(database: DatabaseDep) -> Iterator[Session]:
    with database.read() as session:
        yield session


def _writing(database: DatabaseDep) -> Iterator[Session]:
    with database.write() as session:
        yield session


# With scope "function" the transaction ends before the answer goes out: what a client was told
# is committed.
ReadSession = Annotated[Session, Depends(_reading, scope="function")]
WriteSession = Annotated[Session, Depends(_writing, scope="function")]
