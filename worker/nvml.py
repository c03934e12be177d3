"""Reads GPUs by the driver's management library, which needs no CUDA context."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pynvml

from worker.devices import Device


class Driver:
    """The NVIDIA driver. OSError when it cannot be asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise OSError(f"the NVIDIA driver does not answer: {error}") from error

    def read(self) -> list[Device]:
        """All devices, in the order of nvidia-smi; without those that do not answer."""
        with self._lock:
            return [device for handle in _handles() for device in _read(handle)]


def _handles() -> Iterator[Any]:
    """Whole GPUs, and the parts of those that are divided."""
    for index in range(pynvml.nvmlDeviceGetCount()):
        with contextlib.suppress(pynvml.NVMLError):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            yield from _parts(handle) or [handle]


def _parts(handle: Any) -> list[Any]:
    parts = []
    with contextlib.suppress(pynvml.NVMLError):
        if pynvml.nvmlDeviceGetMigMode(handle)[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return []
        for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with contextlib.suppress(pynvml.NVMLError):
                parts.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
    return parts


def _read(handle: Any) -> Iterator[Device]:
    with contextlib.suppress(pynvml.NVMLError):
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        yield Device(
            uuid=pynvml.nvmlDeviceGetUUID(handle),
            name=pynvml.nvmlDeviceGetName(handle),
            memory_bytes=int(memory.total),
            free_bytes=int(memory.free),
            capability=_capability(handle),
        )


def _capability(handle: Any) -> tuple[int, int] | None:
    with contextlib.suppress(pynvml.NVMLError):
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        return int(major), int(minor)
    return None
