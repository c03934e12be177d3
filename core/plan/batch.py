"""Which splits of a batch a request leaves open."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidArgument
from core.plan.fit import divisors
from core.refit import ACCUMULATION, DEFAULT_BATCH_SIZE, MICRO_BATCH

AUTO = "auto"
PARAM = "effective_batch_size"


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one optimizer step, and the ways to split them that are allowed."""

    effective: int
    splits: tuple[tuple[int, int], ...]
    """Micro-batch and accumulation."""
    is_open: bool
    """Whether the choice is ours."""


def batch_of(training: Mapping[str, Any], effective: int | None) -> Batch:
    """What a request says about its batch; InvalidArgument where it contradicts itself."""
    micro_batch, accumulation = training.get(MICRO_BATCH), training.get(ACCUMULATION)
    if effective is None:
        return _without_effective(micro_batch, accumulation)
    if isinstance(micro_batch, int) and isinstance(accumulation, int):
        if micro_batch * accumulation != effective:
            raise InvalidArgument(
                f"{MICRO_BATCH} {micro_batch} x {ACCUMULATION} {accumulation} is "
                f"{micro_batch * accumulation}, not the effective batch of {effective}. "
                "Leave one of the three out.",
                param=PARAM,
            )
        return Batch(effective, ((micro_batch, accumulation),), is_open=False)
    if isinstance(micro_batch, int):
        other = _divided(effective, micro_batch, MICRO_BATCH)
        return Batch(effective, ((micro_batch, other),), is_open=True)
    if isinstance(accumulation, int):
        other = _divided(effective, accumulation, ACCUMULATION)
        return Batch(effective, ((other, accumulation),), is_open=True)
    return _every_split(effective)


def _without_effective(micro_batch: Any, accumulation: Any) -> Batch:
    if AUTO not in (micro_batch, accumulation):
        split = (int(micro_batch or DEFAULT_BATCH_SIZE), int(accumulation or 1))
        return Batch(split[0] * split[1], (split,), is_open=False)
    if isinstance(micro_batch, int):
        other = max(1, DEFAULT_BATCH_SIZE // micro_batch)
        return Batch(micro_batch * other, ((micro_batch, other),), is_open=True)
    if isinstance(accumulation, int):
        splits = tuple((size, accumulation) for size in divisors(DEFAULT_BATCH_SIZE))
        return Batch(DEFAULT_BATCH_SIZE * accumulation, splits, is_open=True)
    return _every_split(DEFAULT_BATCH_SIZE)


def _every_split(effective: int) -> Batch:
    splits = tuple((size, effective // size) for size in divisors(effective))
    return Batch(effective, splits, is_open=True)


def _divided(effective: int, part: int, name: str) -> int:
    if effective % part:
        below = effective // part * part
        near = f"{below} or {below + part}" if below else str(part)
        raise InvalidArgument(
            f"The effective batch of {effective} is no multiple of {name} {part}; ask for {near}.",
            param=PARAM,
        )
    return effective // part
