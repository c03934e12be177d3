"""What is to be done when nobody asks: each API process does it, and none minds the others."""

import logging
import threading
from collections.abc import Callable

from sqlalchemy.orm import Session

from app.services import Services
from core.answers import forget_answers
from core.courier import deliver_due
from core.db import database_now
from core.errors import Unavailable
from core.files import delete_expired_files
from core.garbage import remove_strays
from core.uploads import expire_uploads
from core.webhooks import forget_deliveries

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
TICKS_BETWEEN_SWEEPS = 30
TICKS_BETWEEN_CLEANINGS = 3600
FIRST_CLEANING = 60
PAUSE_SECONDS = 10.0
"""After a chore that failed; the log is not filled meanwhile."""
LEAVE_SECONDS = 2.0


class Chores:
    """A thread that tells webhooks, and looks after files and uploads whose time is over."""

    def __init__(self, services: Services):
        self._services = services
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="chores", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, after what is being done; who is told too slowly is told again by the next one."""
        self._closing.set()
        self._thread.join(LEAVE_SECONDS)

    def _work(self) -> None:
        ticks = 0
        while not self._closing.wait(TICK_SECONDS):
            ticks += 1
            chores = [self._deliver]
            if ticks % TICKS_BETWEEN_SWEEPS == 0:
                chores += [self._delete_files, self._expire_uploads]
                chores += [self._forget_deliveries, self._forget_answers]
            if ticks % TICKS_BETWEEN_CLEANINGS == FIRST_CLEANING:
                chores.append(self._remove_strays)
            if not all(self._is_done(chore) for chore in chores):
                self._closing.wait(PAUSE_SECONDS)

    def _is_done(self, chore: Callable[[], int]) -> bool:
        try:
            while not self._closing.is_set() and chore():
                pass
        except Unavailable as error:
            logger.warning("chores wait: %s", error.message)
            return False
        except Exception:
            # A thread that ended would leave everything undone, and nobody would know.
            logger.exception("a chore failed")
            return False
        return True

    def _deliver(self) -> int:
        return deliver_due(self._services.database, self._services.egress)

    def _delete_files(self) -> int:
        return self._sweep(
            lambda session: delete_expired_files(
                session, self._services.storage, now=database_now(session)
            )
        )

    def _expire_uploads(self) -> int:
        return self._sweep(
            lambda session: expire_uploads(
                session, self._services.storage, now=database_now(session)
            )
        )

    def _forget_deliveries(self) -> int:
        return self._sweep(lambda session: forget_deliveries(session, now=database_now(session)))

    def _forget_answers(self) -> int:
        return self._sweep(lambda session: forget_answers(session, now=database_now(session)))

    def _remove_strays(self) -> int:
        with self._services.database.read() as session:
            now = database_now(session)
        remove_strays(self._services.database, self._services.storage, now=now)
        return 0

    def _sweep(self, sweep: Callable[[Session], int]) -> int:
        with self._services.database.write() as session:
            return sweep(session)
