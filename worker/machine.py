"""What this machine has to train with."""

import importlib.metadata
import os
import re
from pathlib import Path
from typing import Any

import psutil

from core.errors import SettingsError
from core.sandbox import landlock_version
from core.settings import Settings
from worker.devices import Device, Reading, read_devices, visible_devices

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
A_DEVICE = re.compile(r"\s*(\d|GPU-|MIG-)")
"""How CUDA_VISIBLE_DEVICES begins unless it hides all devices."""
CGROUP = Path("/sys/fs/cgroup")
REPORTED_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets")


class Machine:
    """This machine, with the GPUs that the worker may use. `read` asks for them anew each time."""

    def __init__(self, settings: Settings, read: Reading = read_devices):
        self._settings = settings
        self._read = read
        self.device = training_device(settings)

    @property
    def gpus(self) -> list[Device]:
        """As they are now; none on a CPU, and where the driver does not tell."""
        if self.device == "cpu":
            return []
        return visible_devices(self._read(), self._settings.visible_devices)

    @property
    def for_children(self) -> str | None:
        """CUDA_VISIBLE_DEVICES of a training: one device, which is all that the trainer can use."""
        gpus = self.gpus
        if gpus:
            return gpus[0].uuid
        allowed = self._settings.visible_devices
        return None if allowed is None else allowed.partition(",")[0]

    @property
    def memory_bytes(self) -> int | None:
        """Memory in which a training is: the device's, or the machine's; None where unknown."""
        if self.device == "cpu":
            return memory_bytes()
        gpus = self.gpus
        return gpus[0].memory_bytes if gpus else None

    @property
    def free_bytes(self) -> int | None:
        """What of it a training could still take; None where unknown."""
        if self.device == "cpu":
            return free_memory_bytes()
        gpus = self.gpus
        return gpus[0].free_bytes if gpus else None

    def facts(self) -> dict[str, Any]:
        """What the worker reports to the service."""
        gpus = self.gpus
        bf16 = has_bfloat16() if self.device == "cpu" else bool(gpus) and gpus[0].has_bfloat16
        facts = {
            "device": self.device,
            "cpus": usable_cpus(),
            "is_sandboxed": is_sandboxed(self._settings),
            "bf16": bf16,
            "memory_bytes": memory_bytes(),
            "versions": {name: importlib.metadata.version(name) for name in REPORTED_PACKAGES},
        }
        if self.device == "cpu":
            return facts
        total = gpus[0].memory_bytes if gpus else None
        return facts | {
            "device_memory_bytes": total,
            "devices": [device.as_dict() for device in gpus],
        }


def training_device(settings: Settings) -> str:
    """`cuda` where this machine has an NVIDIA device and nobody hid it or asked for the CPU."""
    if settings.device != "auto":
        return settings.device
    allowed = settings.visible_devices
    is_hidden = allowed is not None and not A_DEVICE.match(allowed)
    return "cuda" if Path("/dev/nvidia0").exists() and not is_hidden else "cpu"


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


def free_memory_bytes() -> int:
    """Memory of this machine, or of this container, that nobody holds."""
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


def has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return False
    flags = next((line for line in path.read_text().splitlines() if line.startswith("flags")), "")
    return bool(BFLOAT16_FLAGS & set(flags.split()))
