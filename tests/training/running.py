"""Runs a real training child as a supervisor does, and keeps all that it said."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from worker.forkserver import ChildHandle, start_child

Message = dict[str, Any]
React = Callable[[ChildHandle, Message], None]


@dataclass
class ChildRun:
    """What a child said, and how it ended."""

    messages: list[Message] = field(default_factory=list)
    log: bytes = b""
    exit_code: int | None = None

    def of(self, kind: str) -> list[Message]:
        """The messages of one type."""
        return [message for message in self.messages if message["type"] == kind]

    def metric(self, name: str) -> dict[int, float]:
        """The values of one metric by step."""
        return {m["step"]: m["data"][name] for m in self.of("metrics") if name in m["data"]}

    @property
    def last(self) -> Message:
        """The last message."""
        return self.messages[-1]


def publish(child: ChildHandle, message: Message) -> None:
    """Do as a supervisor does that publishes checkpoints at once."""
    if message["type"] == "checkpoint":
        child.send({"type": "published", "step": message["step"]})


def run_child(order: Message, *, react: React = publish) -> ChildRun:
    """Run a child to its end. `react` is called with each of its messages."""
    run = ChildRun()
    child = start_child(order)
    sources: list[Any] = [child.control, child.log]
    while sources:
        for source in wait(sources, timeout=1):
            if not _read(child, run, source, react):
                sources.remove(source)
        _tick(child)
    child.process.join()
    run.exit_code = child.process.exitcode
    child.close()
    return run


def _read(child: ChildHandle, run: ChildRun, source: Any, react: React) -> bool:
    if source is child.log:
        data = os.read(child.log.fileno(), 65536)
        run.log += data
        return bool(data)
    try:
        message = child.receive()
    except (EOFError, OSError):
        return False
    run.messages.append(message)
    react(child, message)
    return True


def _tick(child: ChildHandle) -> None:
    try:
        child.send({"type": "tick"})
    except OSError:
        # It is gone: its end of the line tells the rest.
        return
