"""Runs a command that must not outlive its owner: `python -m cli.embedded.guard GRACE -- COMMAND`.

The owner holds the other end of our standard input. When that closes, however the owner ended,
the command is asked to stop, and killed after GRACE seconds.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the command; its exit code is ours."""
    grace, command = float(sys.argv[1]), sys.argv[3:]
    # No other thread runs yet, so that code between fork and exec is safe.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent
    )

    def pass_on(number: int, _: FrameType | None) -> None:
        process.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watcher = threading.Thread(target=_stop_with_owner, args=(process, grace), daemon=True)
    watcher.start()
    code = process.wait()
    _kill_group(process.pid)
    return code if code >= 0 else 128 - code


def _die_with_parent() -> None:
    """Let the kernel kill the command when the guard itself is killed: nobody else would."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _stop_with_owner(process: subprocess.Popen[bytes], grace: float) -> None:
    # Not sys.stdin: its lock, held by a daemon thread, aborts the interpreter at exit.
    os.read(0, 1)
    process.terminate()
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        _kill_group(process.pid)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main())
