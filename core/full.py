"""Telling a full disk from other trouble with files."""

import errno
import re

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No space, no quota, or more than a file may hold here."""

_IN_WORDS = re.compile(r"\(os error ([0-9]+)\)")


def is_full(error: OSError) -> bool:
    """Whether there was no room for what was to be written."""
    return error.errno in FULL


def is_full_in_words(text: str) -> bool:
    """The same of libraries that keep the number in their message only."""
    return any(int(number) in FULL for number in _IN_WORDS.findall(text))
