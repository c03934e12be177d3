"""Small limits for one test: what a full disk does, without a disk and without being root."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def small_files(limit_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond the limit: writes fail as on a full disk.

    Python ignores the signal that comes with it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
