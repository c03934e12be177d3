"""The memory of a training child: its limit, and the most that it has held."""

import os
import resource
import sys
from pathlib import Path

import torch


def limit_memory(limit_bytes: int, device: str) -> None:
    """Make allocations beyond the limit fail in this process, instead of elsewhere.

    On a CPU the limit is on private memory (RLIMIT_DATA). It counts address space, so what the
    process has mapped without using it, stacks of threads and the like, is allowed on top.
    """
    if device == "cuda":
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total))
        return
    if sys.platform != "linux":
        return
    unused = max(0, _status_bytes("VmData") - _resident_bytes())
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes + unused, hard))


def peak_memory_bytes(device: str) -> int:
    """The most memory that this process has held so far, on the device that it trains on."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_memory_bytes(device: str) -> int | None:
    """The memory that this process holds now; on a GPU what torch has reserved there.

    None where the system does not tell.
    """
    if device == "cuda":
        return torch.cuda.memory_reserved()
    return _resident_bytes() if sys.platform == "linux" else None


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _status_bytes(name: str) -> int:
    """A memory field of /proc/self/status, which are in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
