"""Times and sizes, as people say them and as they are understood."""

import time

import pytest

from cli.errors import Exit, UserError
from cli.logs import parse_since
from cli.words import in_words, size_in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.1, "< 1 s"), (59.4, "59 s"), (185, "3 m 5 s"), (7800, "2 h 10 m")],
)
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(12, "12 bytes"), (1234, "1.2 kB"), (5.2e6, "5.2 MB"), (3e9, "3.00 GB")]
)
def test_sizes_are_said_in_the_unit_that_fits(count: float, words: str) -> None:
    assert size_in_words(count) == words


def test_a_time_is_one_ago_or_a_date() -> None:
    assert 3599 <= time.time() - parse_since("1h") <= 3602
    assert parse_since("2026-05-01T12:00+00:00") == 1777636800


def test_a_time_that_is_none_is_wrong_usage() -> None:
    for text in ("5", "m", "yesterday", "5 m", "0x5m"):
        with pytest.raises(UserError) as caught:
            parse_since(text)
        assert caught.value.code is Exit.USAGE
