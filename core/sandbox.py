"""The walls around hostile work: what it may read, where it may write, and no network.

Landlock is the kernel's own and needs no privilege (docs.kernel.org/userspace-api/landlock.html).
It restricts the thread that asks and whatever it starts, for good.
"""

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on every architecture."""
VERSION, PATH_BENEATH = 1, 1
PR_SET_NO_NEW_PRIVS = 38

READ = 0b1101  # execute, read a file, list a folder
ON_FILES = 0b1100_0000_0000_0111  # execute, write, read, truncate, ioctl
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""How many rights over files each version of the interface knows, from that version on."""
NETWORK_SINCE, SCOPES_SINCE = 4, 6
TCP = 0b11  # bind, connect
SCOPES = 0b11  # abstract sockets of others, signals to others

FOLDERS = ("/usr", "/lib", "/lib64", "/bin", "/opt", "/sys", sys.prefix, sys.base_prefix)
FILES = ("/etc/ld.so.cache", "/etc/localtime", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat")
# Of the processes only the own one: the others' environments hold secrets.
SYSTEM = (*map(Path, (*FOLDERS, *FILES, "/proc/sys", "/proc/driver")),)
DEVICES = ("null", "zero", "full", "random", "urandom", "shm", "nvidia*", "dri", "kfd")
PACKAGES = Path(__file__).resolve().parents[1]
CODE = (PACKAGES / "core", PACKAGES / "worker")


def landlock_version() -> int:
    """Version of the kernel's interface; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    version: int = _libc().syscall(CREATE_RULESET, None, 0, VERSION)
    return max(0, version)


def enter_sandbox(*, readable: Iterable[Path], writable: Path) -> None:
    """Give up everything but these paths, the installed programs and what computes.

    Call it before other threads exist. OSError where the kernel has no Landlock.
    """
    version = landlock_version()
    if not version:
        raise OSError("This kernel has no Landlock.")
    rights = (1 << max(n for since, n in FILE_RIGHTS.items() if since <= version)) - 1
    network = TCP if version >= NETWORK_SINCE else 0
    scopes = SCOPES if version >= SCOPES_SINCE else 0
    # An older kernel refuses fields that it does not know, unless they are zero.
    attributes = struct.pack("<QQQ", rights, network, scopes)
    ruleset = _call(CREATE_RULESET, attributes, len(attributes), 0)
    with closing(os.fdopen(ruleset, "rb", buffering=0)):
        for path in (*SYSTEM, *CODE, Path("/proc/self"), *readable):
            _allow(ruleset, path, READ)
        for path in (writable, *_devices()):
            _allow(ruleset, path, rights)
        if _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs was refused")
        _call(RESTRICT_SELF, ruleset, 0)


def _devices() -> Iterator[Path]:
    for name in DEVICES:
        yield from Path("/dev").glob(name)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # not every system has every folder
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= ON_FILES
        _call(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("<Qi", rights, handle), 0)
    finally:
        os.close(handle)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc().syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
