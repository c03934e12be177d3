"""One process of the embedded service: started under a guard, restarted when it dies."""

import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 30.0
STABLE_SECONDS = 60.0
"""A part that ran for so long is restarted at once when it dies."""
MAX_LOG_BYTES = 20 * 1024 * 1024
WARNING = re.compile(rb"^(\S+ \S+ )?(WARNING|ERROR|CRITICAL)\b.*", re.MULTILINE)


@dataclass
class Part:
    """A command that runs in `home`, its log there, and its life so far."""

    name: str
    command: list[str]
    home: Path
    environment: Mapping[str, str]
    grace_seconds: float
    process: subprocess.Popen[bytes] | None = None
    _started: float = 0.0
    _backoff: float = FIRST_BACKOFF_SECONDS
    _restart_at: float | None = None
    _shown_bytes: int = 0

    @property
    def log(self) -> Path:
        """Where the command's output goes."""
        return self.home / "logs" / f"{self.name}.log"

    def start(self) -> None:
        """Start the command in a session of its own, so that Ctrl-C reaches `up` only."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        guard = [sys.executable, "-P", "-m", "cli.embedded.guard", str(self.grace_seconds), "--"]
        with self.log.open("ab") as log:
            self._shown_bytes = log.tell()
            self.process = subprocess.Popen(
                guard + self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                cwd=self.home,
                start_new_session=True,
            )
        self._started = time.monotonic()
        self._restart_at = None

    def tend(self) -> str | None:
        """Restart the command if it has died, with back-off; a line about it when there is news."""
        if self.process is None or self.process.poll() is None:
            return None
        now = time.monotonic()
        if self._restart_at is None:
            stable = now - self._started > STABLE_SECONDS
            self._backoff = FIRST_BACKOFF_SECONDS if stable else self._backoff
            self._restart_at = now + self._backoff
            wait, self._backoff = self._backoff, min(self._backoff * 2, MAX_BACKOFF_SECONDS)
            code = self.process.returncode
            return f"{self.name} ended with code {code}; starting it again in {wait:.0f} s"
        if now >= self._restart_at:
            self.stop()
            self.start()
        return None

    def has_failed_to_start(self) -> bool:
        """Whether the command ended before it was of use."""
        return self.process is not None and self.process.poll() is not None

    def new_warnings(self) -> str | None:
        """The warnings and errors that the log has got since the last call, if there are any."""
        with self.log.open("rb") as log:
            log.seek(self._shown_bytes)
            # A line that is still being written waits for the next call.
            lines, newline, _ = log.read().rpartition(b"\n")
        self._shown_bytes += len(lines) + len(newline)
        found = [match[0].decode(errors="replace") for match in WARNING.finditer(lines)]
        return "\n".join(f"{self.name}: {line}" for line in found) or None

    def wait(self) -> int:
        """Let the command end by itself; its exit code."""
        assert self.process is not None
        return self.process.wait()

    def stop(self) -> None:
        """Ask the command to stop, and wait; its guard kills it when its grace is over."""
        if self.process is None:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def last_lines(self, count: int = 12) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
