"""Work that does what it is told, good or bad, for `core.isolated` to run."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import InvalidFile


def work(request: dict[str, Any], chunks: Iterator[bytes]) -> dict[str, Any]:  # noqa: C901 - a list
    """Do it."""
    match request["do"]:
        case "read":
            return {"text": Path(request["path"]).read_text()}
        case "write":
            Path(request["path"]).write_text("x")
        case "connect":
            socket.create_connection(("127.0.0.1", request["port"]), timeout=5)
        case "kill":
            os.kill(request["pid"], signal.SIGTERM)
        case "hold":
            bytearray(8 * 1024**3)
        case "spin":
            while True:
                pass
        case "wait":
            signal.pause()
        case "crash":
            os.abort()
        case "refuse":
            raise InvalidFile("line 3 is broken", param="file")
        case "count":
            return {"bytes": sum(map(len, chunks))}
        case "look":
            return {
                "environment": sorted(os.environ),
                "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
                "pid": os.getpid(),
            }
    return {}
