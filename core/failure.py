"""Why an attempt failed, for its user."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from core.room import Hold
from core.settings import Settings
from core.states import FailureReason

MAX_BACKOFF_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt failed, in the user's words."""

    reason: FailureReason
    message: str
    param: str | None = None
    evidence: dict[str, Any] | None = None
    """What was seen: step, exit status, memory, the last lines of the log."""
    suggestion: str | None = None
    """What to do, where more is known than its reason says."""
    hold: Hold | None = None
    """What the job is to wait for before it is tried again."""

    def as_error(self) -> dict[str, Any]:
        """OpenAI's error object of a job, and what to do about it."""
        return {
            "code": self.reason.code,
            "message": self.message,
            "param": self.param,
            "suggestion": self.suggestion or self.reason.suggestion,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often the queue starts a job again by itself."""

    max_lost_attempts: int
    backoff_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> "RetryPolicy":
        """By the settings."""
        return cls(
            max_lost_attempts=settings.max_lost_attempts,
            backoff_seconds=settings.retry_backoff_seconds,
        )

    def wait(self, num_attempts: int) -> timedelta:
        """The pause before the next attempt, doubled with each one."""
        seconds = self.backoff_seconds * 2 ** min(num_attempts - 1, 20)
        return timedelta(seconds=min(seconds, MAX_BACKOFF_SECONDS))
