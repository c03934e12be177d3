"""What is to be done when nobody asks: each API process does it, and none minds the others."""

import logging
import random
import threading
from collections.abc import Callable

from app.services import Services
from core.db import database_now
from core.errors import Unavailable
from core.files import delete_expired_files
from core.uploads import expire_uploads

logger = logging.getLogger(__name__)

EVERY_SECONDS = 30.0


class Chores:
    """A thread that looks after the files and uploads whose time is over."""

    def __init__(self, services: Services):
        self._services = services
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="chores", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, after what is being done."""
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        # Jitter keeps several servers from doing the same at the same time.
        while not self._closing.wait(EVERY_SECONDS * random.uniform(0.5, 1.5)):
            for chore in (self._delete_files, self._expire_uploads):
                self._try(chore)

    def _try(self, chore: Callable[[], int]) -> None:
        try:
            while not self._closing.is_set() and chore():
                pass
        except Unavailable as error:
            logger.warning("chores wait: %s", error.message)
        except Exception:
            # A thread that ended would leave everything lying about, and nobody would know.
            logger.exception("a chore failed")

    def _delete_files(self) -> int:
        with self._services.database.write() as session:
            now = database_now(session)
            return delete_expired_files(session, self._services.storage, now=now)

    def _expire_uploads(self) -> int:
        with self._services.database.write() as session:
            now = database_now(session)
            return expire_uploads(session, self._services.storage, now=now)
