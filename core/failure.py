"""Why an attempt failed, for its user."""

from dataclasses import dataclass
from typing import Any

from core.states import FailureReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt failed, in the user's words."""

    reason: FailureReason
    message: str
    param: str | None = None
    evidence: dict[str, Any] | None = None
    """What was seen: step, exit status, memory, the last lines of the log."""

    def as_error(self) -> dict[str, Any]:
        """OpenAI's error object of a job, and what to do about it."""
        return {
            "code": self.reason.code,
            "message": self.message,
            "param": self.param,
            "suggestion": self.reason.suggestion,
        }
