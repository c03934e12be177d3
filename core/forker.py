"""A process that has imported what reads hostile input, and forks itself for each piece of it.

`core.isolated` starts it and sends two sockets for each piece: one for what is read and what comes
of it, one on which it tells how the child ended. To start an interpreter would take 50 times as
long as to fork. It holds no secret, has one thread, and computes nothing itself.
"""

import ctypes
import gc
import os
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import orjson

from core.errors import Invalid
from core.sandbox import enter_sandbox, landlock_version

CHUNK_BYTES = 1024 * 1024
LENGTH_BYTES = 4
"""Of the number before a request; what follows the request is the input."""
MAX_DESCRIPTORS = 65_536
PR_SET_PDEATHSIG = 1
SHOWN_CHARACTERS = 300


class Forker:
    """Forks when it is asked, kills when it is left, and ends with whoever started it."""

    def __init__(self, control: socket.socket):
        self._control = control
        self._leashes: dict[int, socket.socket] = {}
        """By the process at their end."""
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Until the other side is gone."""
        woken, waking = socket.socketpair()
        waking.setblocking(False)
        woken.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        self._listen(self._control, self._fork)
        self._listen(woken, partial(self._reap, woken))
        while all(key.data() for key, _ in self._selector.select()):
            pass
        for pid in self._leashes:
            _kill(pid)

    def _listen(self, source: socket.socket, then: Callable[[], bool]) -> None:
        """Have something done when there is something to read; False from it ends all."""
        self._selector.register(source, selectors.EVENT_READ, then)

    def _fork(self) -> bool:
        """Begin what is asked for; False when nobody will ask any more."""
        message, descriptors, _, _ = socket.recv_fds(self._control, 1, 2)
        if not message:
            return False
        pipe, leash = descriptors
        pid = os.fork()
        if pid == 0:
            _work(pipe)
        os.close(pipe)
        self._leashes[pid] = socket.socket(fileno=leash)
        self._listen(self._leashes[pid], partial(self._abandon, pid, self._leashes[pid]))
        return True

    def _abandon(self, pid: int, leash: socket.socket) -> bool:
        """Nobody waits for this child any more."""
        if self._leashes.get(pid) is leash:
            _kill(pid)
            self._selector.unregister(leash)
        return True

    def _reap(self, woken: socket.socket) -> bool:
        """Tell how children ended."""
        woken.recv(CHUNK_BYTES)
        while self._leashes:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            # What the child started itself ends with it.
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            with self._leashes.pop(pid) as leash:
                if leash in self._selector.get_map():
                    self._selector.unregister(leash)
                with suppress(OSError):
                    leash.send(b"%d" % os.waitstatus_to_exitcode(status))
        return True


def _kill(pid: int) -> None:
    """End a child, and with it all of its group."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        return


def _work(pipe: int) -> NoReturn:
    """Be the child: read a request, answer it, and end."""
    code = 1
    try:
        os.setsid()
        _die_with_parent()
        # Descriptors of other children's work, and the way to ask for more, are not for this one.
        signal.set_wakeup_fd(-1)
        os.dup2(pipe, 0)
        os.closerange(3, MAX_DESCRIPTORS)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with socket.socket(fileno=0) as connection:
            connection.sendall(orjson.dumps(_answer(connection)))
        code = 0
    finally:
        # Threads of native libraries need not be waited for.
        os._exit(code)


def _answer(connection: socket.socket) -> dict[str, Any]:
    try:
        size = int.from_bytes(_exactly(connection, LENGTH_BYTES), "big")
        envelope = orjson.loads(_exactly(connection, size))
        work = import_module(envelope["module"]).work
        _limit(**envelope["limits"])
        if landlock_version():
            enter_sandbox(readable=map(Path, envelope["reads"]), writable=Path(envelope["scratch"]))
        os.environ["TMPDIR"] = envelope["scratch"]
        return {"result": work(envelope["request"], _chunks(connection))}
    except MemoryError:
        return {"error": {"type": "MemoryError"}}
    except Invalid as error:
        return {
            "error": {
                "type": type(error).__name__,
                "message": error.message,
                "param": error.param,
                "details": error.details,
            }
        }
    except BaseException as error:  # noqa: BLE001 - panics of native code are no Exception
        said = f"{type(error).__name__}: {error}"[:SHOWN_CHARACTERS]
        return {"error": {"type": "failure", "message": said.encode(errors="replace").decode()}}


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise EOFError("the request ends early")
        found += part
    return bytes(found)


def _chunks(connection: socket.socket) -> Iterator[bytes]:
    return iter(lambda: connection.recv(CHUNK_BYTES), b"")


def _limit(cpu_seconds: float, memory_bytes: int) -> None:
    seconds = int(cpu_seconds) + 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Import the modules of the command line once for all, and wait for work on stdin."""
    for name in sys.argv[1:]:
        import_module(name)
    gc.collect()
    # What is there now stays shared with all children.
    gc.freeze()
    Forker(socket.socket(fileno=0)).run()


if __name__ == "__main__":
    main()
