"""Tells whether a checkpoint could not be written for want of room."""

from pathlib import Path

from core.full import is_full, is_full_in_words

PROBE_BYTES = 1024 * 1024


def lacks_room(error: Exception, folder: Path) -> bool:
    """Whether `error`, raised while writing below `folder`, means that the disk is full."""
    if isinstance(error, OSError) and is_full(error):
        return True
    # torch does not say why its writer failed; what is left of the disk does.
    return is_full_in_words(str(error)) or not _can_write(folder)


def _can_write(folder: Path) -> bool:
    probe = folder / "probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * PROBE_BYTES)
    except OSError as error:
        return not is_full(error)
    finally:
        probe.unlink(missing_ok=True)
    return True
