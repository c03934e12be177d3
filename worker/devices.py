"""The GPUs that this worker may use, as the driver tells, without a context on any of them."""

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

BFLOAT16_SINCE = (8, 0)
"""Compute capability (Ampere) from which on bfloat16 is computed and not imitated."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, or one part of a divided GPU, at one moment."""

    uuid: str
    name: str
    memory_bytes: int
    free_bytes: int
    capability: tuple[int, int] | None = None
    """Major and minor; None where the driver does not say."""

    @property
    def has_bfloat16(self) -> bool:
        """Whether it computes in bfloat16."""
        return self.capability is not None and self.capability >= BFLOAT16_SINCE

    def as_dict(self) -> dict[str, Any]:
        """As the worker reports it."""
        return {
            "name": self.name,
            "uuid": self.uuid,
            "memory_bytes": self.memory_bytes,
            "memory_free_bytes": self.free_bytes,
            "compute_capability": ".".join(map(str, self.capability)) if self.capability else None,
            "bf16": self.has_bfloat16,
        }


Reading = Callable[[], Sequence[Device]]
"""All devices of the machine now, in the order of nvidia-smi; none where there is no telling."""


def read_devices() -> Sequence[Device]:
    """What the driver says now."""
    if not Path("/dev/nvidiactl").exists():
        return ()
    read: Reading | None = _driver()
    return () if read is None else read()


@cache
def _driver() -> Reading | None:
    try:
        # Loaded only where there is a driver: it takes time and 4 MB.
        read: Reading = importlib.import_module("worker.nvml").Driver().read
    except (ImportError, OSError) as error:
        logger.warning("the memory of the GPUs is not known: %s", error)
        return None
    return read


def visible_devices(devices: Sequence[Device], allowed: str | None = None) -> list[Device]:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order; numbers are those of nvidia-smi.

    As CUDA does, it takes nothing that comes after the first name which is none.
    """
    if allowed is None:
        return list(devices)
    found: list[Device] = []
    for part in allowed.split(","):
        device = _named(devices, part.strip())
        if device is None or device in found:
            break
        found.append(device)
    return found


def _named(devices: Sequence[Device], name: str) -> Device | None:
    if name.isdecimal():
        return devices[int(name)] if int(name) < len(devices) else None
    # A beginning of its UUID is enough.
    found = [device for device in devices if name and device.uuid.startswith(name)]
    return found[0] if len(found) == 1 else None
