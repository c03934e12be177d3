"""What people see of what strangers wrote, and of tables."""

from cli.output import fitted, plain, table


def test_hostile_text_moves_no_cursor_and_turns_no_line() -> None:
    hostile = "a\x1b[31mred\x07 \u202eback\u2028next\x85\r\tend"

    shown = plain(hostile)

    assert shown == "a\ufffd[31mred\ufffd \ufffdback\ufffdnext\ufffd\ufffd    end"
    assert plain("日本語 ✓ ok") == "日本語 ✓ ok"


def test_columns_stand_under_each_other_whatever_the_width_of_their_letters() -> None:
    text = table([["NAME", "LOSS"], ["日本語", "1.5"], ["faq", "-"]], width=80)

    assert text.splitlines() == ["NAME    LOSS", "日本語  1.5", "faq     -"]


def test_no_line_is_longer_than_the_terminal_is_wide() -> None:
    assert fitted("0123456789", 10) == "0123456789"
    assert fitted("0123456789x", 10) == "012345678…"
