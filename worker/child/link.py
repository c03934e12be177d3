"""The child's end of the line to its supervisor."""

import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson

ORPHANED = 75
"""Exit code of a child whose supervisor is gone (EX_TEMPFAIL)."""

MAX_UNPUBLISHED = 2


class SupervisorLink:
    """Sends messages, and hears in a thread of its own what the supervisor wants.

    The process ends at once when the supervisor closes its end, or sends nothing, not even a
    tick, for `lease_seconds`: somebody else may be training this job by then.
    """

    def __init__(self, connection: Connection, *, lease_seconds: float):
        self._connection = connection
        self._lease_seconds = lease_seconds
        self._changed = threading.Condition()
        self._unpublished: set[int] = set()
        self._stop: dict[str, Any] | None = None

    def listen(self) -> None:
        """Begin to hear the supervisor."""
        threading.Thread(target=self._listen, name="supervisor-link", daemon=True).start()

    def send(self, kind: str, /, **fields: Any) -> None:
        """Send one message. Only the training thread may do so."""
        message = orjson.dumps({"type": kind, **fields}, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            self._connection.send_bytes(message)
        except OSError:
            os._exit(ORPHANED)

    def send_checkpoint(self, step: int, folder: Path, metrics: dict[str, float]) -> None:
        """Hand a complete checkpoint folder over to the supervisor."""
        with self._changed:
            self._unpublished.add(step)
        self.send("checkpoint", step=step, path=str(folder), metrics=metrics)

    def wait_for_room(self) -> None:
        """Wait until so few checkpoints are unpublished that the disk has room for another."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._unpublished) < MAX_UNPUBLISHED)

    @property
    def must_stop(self) -> bool:
        """Whether the supervisor wants the training to end at the next step boundary."""
        return self._stop is not None

    @property
    def must_save(self) -> bool:
        """Whether a stop is to leave a checkpoint."""
        return self._stop is None or bool(self._stop["save"])

    def _listen(self) -> None:
        try:
            while self._connection.poll(self._lease_seconds):
                self._hear(orjson.loads(self._connection.recv_bytes()))
        except (EOFError, OSError):
            pass
        os._exit(ORPHANED)

    def _hear(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "stop":
                self._stop = message
            case "published":
                with self._changed:
                    self._unpublished.discard(message["step"])
                    self._changed.notify_all()
            case _:
                assert message["type"] == "tick", message
