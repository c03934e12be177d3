"""Whether the worker of this machine is alive: `python -m worker.health`, for containers."""

import socket
import sys
from datetime import timedelta

from core.db import Database, database_now
from core.errors import TuneyardError
from core.models import Worker
from core.settings import Settings

LATE_AFTER_POLLS = 10


def main() -> int:
    """0 when this machine's worker reported itself lately, else 1 and the reason."""
    try:
        problem = _problem(Settings.from_environment())
    except TuneyardError as error:
        problem = error.message
    if problem:
        sys.stderr.write(f"{problem}\n")
    return 1 if problem else 0


def _problem(settings: Settings) -> str | None:
    name = settings.worker_name or socket.gethostname()
    database = Database(settings.database_url)
    try:
        with database.read() as session:
            worker = session.get(Worker, name)
            if worker is None:
                return f"worker {name} has not reported itself"
            late = timedelta(seconds=LATE_AFTER_POLLS * settings.poll_seconds)
            if worker.heartbeat_at < database_now(session) - late:
                return f"worker {name} was last seen at {worker.heartbeat_at:%H:%M:%S} UTC"
    finally:
        database.close()
    return None


if __name__ == "__main__":
    sys.exit(main())
