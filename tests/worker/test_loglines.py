"""What a child prints becomes clean lines, whatever it prints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.loglines import MAX_LINE_BYTES, LineSplitter


def _lines(*chunks: bytes) -> list[str]:
    splitter = LineSplitter()
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return lines + list(splitter.finish())


@pytest.mark.parametrize(
    ("printed", "lines"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"no newline at the end", ["no newline at the end"]),
        (b"windows\r\n", ["windows"]),
        (b"10 %\r50 %\r100 %\n", ["100 %"]),
        (b"\x1b[31mred\x1b[0m\n", ["red"]),
        (b"\x1b]0;title\x07text\n", ["text"]),
        (b"nul\x00 and bell\x07\n", ["nul and bell"]),
        (b"\xff\xfe not utf-8\n", ["\ufffd\ufffd not utf-8"]),
        ("日本語\n".encode(), ["日本語"]),
        (b"a\n\nb\n", ["a", "", "b"]),
    ],
)
def test_lines_are_readable_text(printed: bytes, lines: list[str]) -> None:
    assert _lines(printed) == lines


def test_a_line_without_end_is_cut_and_does_not_grow() -> None:
    splitter = LineSplitter()
    lines = [line for _ in range(1000) for line in splitter.feed(b"x" * 65536)]
    lines += splitter.feed(b"end of it\nnext\n")

    assert len(lines) == 2
    assert len(lines[0]) < MAX_LINE_BYTES + 20
    assert lines[1] == "next"


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_where_the_pipe_cuts_makes_no_difference(chunks: list[bytes]) -> None:
    assert _lines(*chunks) == _lines(b"".join(chunks))
