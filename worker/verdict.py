"""Why an attempt failed, judged by what its child said last or by how it died."""

import signal
from typing import Any

from core.queue import Failure
from core.states import FailureReason
from worker.relay import Relay


def told(message: dict[str, Any], relay: Relay) -> Failure:
    """The failure that the child itself reported."""
    return Failure(
        reason=FailureReason.of(message["code"]),
        message=message["message"],
        param=message.get("param"),
        evidence={
            "step": message.get("step", relay.step),
            "in_evaluation": message.get("in_evaluation", False),
            "peak_memory_bytes": message.get("peak_memory_bytes"),
            "log": list(relay.last_lines),
        },
    )


def stalled(relay: Relay) -> Failure:
    """The failure of a child that hung; where it hung is the end of its log."""
    return Failure(
        reason=FailureReason.STALLED,
        message=f"The training made no progress after step {relay.step}.",
        evidence={"step": relay.step, "log": list(relay.last_lines)},
    )


def died(exit_code: int | None, relay: Relay, *, is_killed_by_kernel: bool) -> Failure:
    """The failure of a child that ended without a word."""
    evidence = {"step": relay.step, "exit_code": exit_code, "log": list(relay.last_lines)}
    if exit_code == -signal.SIGKILL and is_killed_by_kernel:
        return Failure(
            reason=FailureReason.OUT_OF_MEMORY,
            message=f"The kernel killed the training at step {relay.step} for want of memory.",
            evidence=evidence,
        )
    how = f"exit code {exit_code}"
    if exit_code is not None and exit_code < 0:
        how = f"signal {-exit_code}"
    return Failure(
        reason=FailureReason.CHILD_DIED,
        message=f"The training process died at step {relay.step} ({how}).",
        evidence=evidence,
    )


def over_time(relay: Relay) -> Failure:
    """The failure of a job that has used up its max_seconds."""
    return Failure(
        reason=FailureReason.TIME_LIMIT,
        message=f"max_seconds were over at step {relay.step}; its checkpoint is kept.",
    )
