"""What this machine has to train with."""

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import psutil

from core.errors import SettingsError
from core.sandbox import landlock_version
from core.settings import Settings

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
CGROUP = Path("/sys/fs/cgroup")
REPORTED_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets")


def training_device(settings: Settings) -> str:
    """`cuda` where this machine has an NVIDIA device and nobody asked for the CPU."""
    if settings.device != "auto":
        return settings.device
    return "cuda" if Path("/dev/nvidia0").exists() else "cpu"


def usable_cpus() -> int:
    """Cores that this process may run on; all of them where the system cannot tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Memory of this machine, or what this container may hold of it."""
    limit = _cgroup("memory.max")
    total = int(psutil.virtual_memory().total)
    return total if limit is None else min(total, limit)


def free_memory_bytes(settings: Settings) -> int | None:
    """Memory that a training could still take here; None where it takes a device's memory."""
    if training_device(settings) != "cpu":
        return None
    free = int(psutil.virtual_memory().available)
    limit, held = _cgroup("memory.max"), _cgroup("memory.current")
    if limit is None or held is None:
        return free
    return min(free, limit - held + _cached_bytes())


def _cgroup(name: str) -> int | None:
    """A number of this process's control group, as a container sees it; None for no limit."""
    path = CGROUP / name
    text = path.read_text().strip() if path.exists() else "max"
    return None if text == "max" else int(text)


def _cached_bytes() -> int:
    """Pages of files, which count as held and go when memory is wanted."""
    lines = (CGROUP / "memory.stat").read_text().splitlines()
    return int(dict(line.split() for line in lines)["inactive_file"])


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started."""
    path = Path("/proc/vmstat")
    if not path.exists():
        return 0
    fields = dict(line.split() for line in path.read_text().splitlines())
    return int(fields.get("oom_kill", 0))


def resident_bytes(pid: int) -> int | None:
    """Memory that a process holds on this machine; None when it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return None


def is_sandboxed(settings: Settings) -> bool:
    """Whether children get walls; SettingsError when they must and this kernel has none."""
    can = landlock_version() > 0
    if settings.sandbox == "required" and not can:
        raise SettingsError(
            "TUNEYARD_SANDBOX: required, and the kernel of this machine has no Landlock. "
            "Linux 5.13 and later has it; a container may have to allow it.",
            param="TUNEYARD_SANDBOX",
        )
    return can and settings.sandbox != "off"


def has_bfloat16(settings: Settings) -> bool:
    """Whether the CPU multiplies in bfloat16; of a GPU it is not known before torch is loaded."""
    path = Path("/proc/cpuinfo")
    if training_device(settings) != "cpu" or not path.exists():
        return False
    flags = next((line for line in path.read_text().splitlines() if line.startswith("flags")), "")
    return bool(BFLOAT16_FLAGS & set(flags.split()))


def machine_facts(settings: Settings) -> dict[str, Any]:
    """As the worker reports it to the service."""
    return {
        "device": training_device(settings),
        "cpus": usable_cpus(),
        "is_sandboxed": is_sandboxed(settings),
        "bf16": has_bfloat16(settings),
        "memory_bytes": memory_bytes(),
        "versions": {name: importlib.metadata.version(name) for name in REPORTED_PACKAGES},
    }
