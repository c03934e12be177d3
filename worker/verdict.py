"""Why an attempt failed, judged by what its child said last or by how it died."""

import signal
from dataclasses import dataclass, replace
from typing import Any

import psutil

from core.failure import Failure
from core.states import FailureReason
from worker.relay import Relay

READING = ("load", "data")
"""Phases in which a child only reads the model, and makes tokens with its tokenizer."""
LOADING = ("fetch", *READING)
"""Phases in which memory goes to what no batch makes smaller."""
BROKEN = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE)
"""How native code ends that cannot go on: it would end so again."""
BAD_ALLOC = "terminate called after throwing an instance of 'std::bad_alloc'"
"""The last words of C++ where nobody catches that there is no memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What a child leaves behind."""

    exit_code: int | None
    peak_memory_bytes: int | None
    memory_limit_bytes: int | None

    def as_evidence(self, relay: Relay) -> dict[str, Any]:
        """The evidence of a failure, with the machine's memory as it is now."""
        return {
            "step": relay.step,
            "exit_code": self.exit_code,
            "peak_memory_bytes": self.peak_memory_bytes,
            "memory_limit_bytes": self.memory_limit_bytes,
            "available_memory_bytes": psutil.virtual_memory().available,
            "log": list(relay.last_lines),
        }


def told(message: dict[str, Any], relay: Relay, traces: Traces) -> Failure:
    """The failure that the child itself reported."""
    evidence = traces.as_evidence(relay)
    for name in ("step", "peak_memory_bytes"):
        evidence[name] = message[name] if message.get(name) is not None else evidence[name]
    evidence["in_evaluation"] = message.get("in_evaluation", False)
    reason = FailureReason.of(message["code"])
    if reason is FailureReason.OUT_OF_MEMORY:
        evidence["depends_on_batch"] = message["depends_on_batch"]
    return Failure(
        reason=reason,
        message=message["message"],
        param=message.get("param"),
        evidence=evidence,
    )


def stalled(relay: Relay, traces: Traces) -> Failure:
    """The failure of a child that hung; where it hung is the end of its log."""
    return Failure(
        reason=FailureReason.STALLED,
        message=f"The training made no progress after step {relay.step}.",
        evidence=traces.as_evidence(relay),
    )


def died(relay: Relay, traces: Traces, *, is_killed_by_kernel: bool) -> Failure:
    """The failure of a child that ended without a word."""
    code, evidence = traces.exit_code, traces.as_evidence(relay)
    if code == -signal.SIGKILL and is_killed_by_kernel:
        message = f"The kernel killed the training {_when(relay)} for want of memory."
        return _out_of_memory(message, relay, evidence)
    if code == -signal.SIGABRT and BAD_ALLOC in relay.last_lines:
        message = f"The training found no memory {_when(relay)}, and its process aborted."
        return _out_of_memory(message, relay, evidence)
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    if relay.phase in READING and code in BROKEN:
        lines = [line for line in relay.last_lines if line.strip() and not line.startswith("note:")]
        said = lines[-1] if lines else "it said nothing"
        return Failure(
            reason=FailureReason.INVALID_MODEL,
            message=f"The training process died of what it read of the model ({how}): {said[:200]}",
            param="model",
            evidence=evidence,
        )
    return Failure(
        reason=FailureReason.CHILD_DIED,
        message=f"The training process died at step {relay.step} ({how}).",
        evidence=evidence,
    )


def _when(relay: Relay) -> str:
    return "while it was loading" if relay.phase in LOADING else f"at step {relay.step}"


def _out_of_memory(message: str, relay: Relay, evidence: dict[str, Any]) -> Failure:
    depends = relay.phase not in LOADING
    return Failure(
        reason=FailureReason.OUT_OF_MEMORY,
        message=message,
        param=None if depends else "model",
        evidence=evidence | {"depends_on_batch": depends},
    )


def over_time(relay: Relay) -> Failure:
    """The failure of a job that has used up its max_seconds."""
    return Failure(
        reason=FailureReason.TIME_LIMIT,
        message=f"max_seconds were over at step {relay.step}; its checkpoint is kept.",
        evidence={"step": relay.step, "log": list(relay.last_lines)},
    )


def with_log(failure: Failure, relay: Relay) -> Failure:
    """A failure that lay outside of the child, with what was printed until then."""
    return replace(failure, evidence={"step": relay.step, "log": list(relay.last_lines)})
