"""Hear of a stop at once: servers tell the app only after its last open stream has ended."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_stop_signal(notify: Callable[[], None]) -> Iterator[None]:
    """Have the event loop call `notify` on a stop signal, beside what the server does about it.

    Python handles signals in the main thread only; in any other one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(notify)
        handler = handlers[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    taken = [number for number, handler in handlers.items() if callable(handler)]
    for number in taken:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, handlers[number])
