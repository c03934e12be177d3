"""The doorbell: a message without content that makes idle workers look at the queue.

Losing or doubling it is harmless, so ringing never blocks and never fails its caller.
"""

import logging
import queue
import threading
from ipaddress import ip_address
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)

TASK_NAME = "tuneyard.wake"
EXPIRES_SECONDS = 60


class Doorbell:
    """Rings through the broker from a thread of its own. `None` as url makes it silent."""

    def __init__(self, redis_url: str | None):
        self._app = _producer(redis_url) if redis_url else None
        if redis_url and is_open(redis_url):
            logger.warning(
                "The broker at %s asks for no password: whoever reaches it can keep workers busy "
                "looking for jobs. Put a password into REDIS_URL.",
                urlsplit(redis_url).hostname,
            )
        # One waiting ring is enough: whoever hears it takes all the work that there is.
        self._rings: queue.Queue[bool] = queue.Queue(maxsize=1)
        self._thread: threading.Thread | None = None
        if self._app is not None:
            self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
            self._thread.start()

    def ring(self) -> None:
        """Ask workers to look, soon; returns at once."""
        if self._thread is None:
            return
        try:
            self._rings.put_nowait(True)
        except queue.Full:
            logger.debug("a ring is waiting already")

    def close(self) -> None:
        """Send what is waiting, and stop."""
        if self._thread is None:
            return
        self._rings.put(False)
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while self._rings.get():
            self._send()

    def _send(self) -> None:
        assert self._app is not None
        try:
            self._app.send_task(TASK_NAME, expires=EXPIRES_SECONDS, retry=False, ignore_result=True)
        except OperationalError as error:
            logger.warning("broker away, workers will find the job by polling: %s", error)


def is_open(redis_url: str) -> bool:
    """Whether a broker is on another machine and asks for no password."""
    parts = urlsplit(redis_url)
    if parts.password or not parts.hostname or parts.hostname == "localhost":
        return False
    try:
        return not ip_address(parts.hostname).is_loopback
    except ValueError:
        return True


def _producer(redis_url: str) -> Celery:
    app = Celery("tuneyard", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        broker_connection_retry_on_startup=False,
        # Without max_retries 0 here a dead broker makes each publish take seconds.
        broker_transport_options={
            "max_retries": 0,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
            "socket_connect_timeout": 1,
            "socket_timeout": 5,
        },
    )
    return app
