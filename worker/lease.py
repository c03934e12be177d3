"""Keeps the lease of one attempt alive, and learns what its users ask of it."""

import logging
import threading

from core.db import Database, database_now
from core.errors import LeaseLost, Unavailable
from core.queue import Lease, Requests, heartbeat

logger = logging.getLogger(__name__)

REQUEST_SECONDS = 1.0
"""How often requests are looked for; a cancel is heard that soon, however long the lease."""


class LeaseKeeper:
    """Renews a lease from a thread of its own until closed.

    A database that is away changes nothing: the token is the fence, not the clock, and the
    training goes on. `lost` is set only when another owner has been seen.
    """

    def __init__(self, database: Database, lease: Lease, *, lease_seconds: float):
        self._database = database
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._closed = threading.Event()
        self.lost = threading.Event()
        self.requests = Requests(cancel=False, save=False, pause=False)
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop renewing."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        period = min(self._lease_seconds / 3, REQUEST_SECONDS)
        while not self._closed.wait(period):
            try:
                self._beat()
            except LeaseLost:
                self.lost.set()
                return
            except Unavailable:
                logger.warning("lease of %s not renewed: database away", self._lease.job_id)

    def _beat(self) -> None:
        with self._database.write() as session:
            self.requests = heartbeat(
                session,
                self._lease,
                now=database_now(session),
                lease_seconds=self._lease_seconds,
            )
