"""The user's `training`, `peft` and `quantization`, checked without torch against files that were
derived from the libraries (`python -m worker.schema`)."""

from core.arguments.check import (
    CheckedArguments,
    check_peft,
    check_quantization,
    check_training,
)
from core.arguments.rules import KINDS, JsonValue, Kind
from core.arguments.schema import describe, user_names

__all__ = [
    "KINDS",
    "CheckedArguments",
    "JsonValue",
    "Kind",
    "check_peft",
    "check_quantization",
    "check_training",
    "describe",
    "user_names",
]
