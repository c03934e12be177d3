"""Files of examples, line by line, whatever is in them."""

import json
import tracemalloc
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.dataset import FileReport, JsonlValidator, check_usable
from core.errors import InvalidFile

GOOD = b'{"text":"a"}\n'
USER = {"role": "user", "content": "hello"}
REPLY = {"role": "assistant", "content": "hi"}
NESTED = b'{"text":"a","x":' + b"[" * 64 + b"]" * 64 + b"}"


def validate(data: bytes, **options: int) -> FileReport:
    validator = JsonlValidator(**options)
    validator.feed(data)
    return validator.finish()


def lines(*rows: Any) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def reasons(data: bytes, **options: int) -> list[str]:
    return [str(error) for error in validate(data, **options).errors]


@pytest.mark.parametrize(
    ("data", "rows", "blank_lines"),
    [
        pytest.param(GOOD, 1, 0, id="plain"),
        pytest.param(GOOD.rstrip(), 1, 0, id="no newline at the end"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, 1, 0, id="byte order mark"),
        pytest.param(b'{"text":"a"}\r\n\r\n{"text":"b"}\r\n', 2, 1, id="CRLF"),
        pytest.param(b"\n  \n" + GOOD + b"\n", 1, 3, id="blank lines"),
        pytest.param('{"text":"a\u2028b\u0085c"}'.encode(), 1, 0, id="U+2028 in a text"),
        pytest.param(b'{"text":1,"text":"a"}', 1, 0, id="duplicate key, the last wins"),
        pytest.param(b'{"text":""}', 1, 0, id="empty text"),
        pytest.param(rb'{"text":"\ud83d\ude00"}', 1, 0, id="surrogate pair"),
        pytest.param(NESTED.replace(b"[" * 2, b"[", 1).replace(b"]" * 2, b"]", 1), 1, 0, id="64"),
        pytest.param(b'{"text":"' + b",[{" * 100_000 + b'"}', 1, 0, id="commas in a text"),
    ],
)
def test_what_is_allowed_is_accepted(data: bytes, rows: int, blank_lines: int) -> None:
    report = validate(data)

    assert (report.rows, report.blank_lines, report.errors) == (rows, blank_lines, ())
    assert report.shape == "text"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b'{"text":"\xff"}', "not UTF-8: byte 10 is 0xff", id="invalid UTF-8"),
        pytest.param(b'{"text":"\xed\xa0\x80"}', "not UTF-8: byte 10", id="encoded surrogate"),
        pytest.param(b'{"text":"a\x00"}', "a NUL byte at byte 11", id="NUL"),
        pytest.param(rb'{"text":"\ud800"}', "half of a surrogate pair", id="high surrogate"),
        pytest.param(rb'{"text":"\udc00"}', "half of a surrogate pair", id="low surrogate"),
        pytest.param(b'{"text":NaN}', "NaN at character 9 is not JSON; use null", id="NaN"),
        pytest.param(b'{"a":-Infinity}', "-Infinity at character 6", id="Infinity"),
        pytest.param(b'{"a":1e999}', "a number that is too large", id="1e999"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", "a number that is too large", id="digits"),
        pytest.param(NESTED, "nested more than 64 deep", id="depth 65"),
        pytest.param(b"[" * 100_000, "nested more than 64 deep", id="depth 100,000"),
        pytest.param(b"[1]", "the line is a list; an object is needed", id="array"),
        pytest.param(b'"a"', "the line is a string", id="string"),
        pytest.param(b"null", "the line is null", id="null"),
        pytest.param(b"{}", "the object is empty", id="empty object"),
        pytest.param(b'{"text":"a"', "the row does not end on its line", id="cut off"),
        pytest.param(b'{"text":"a"} {}', "not JSON", id="two objects"),
        pytest.param(b"{'text':'a'}", "not JSON", id="Python"),
        pytest.param(b'{"\\u0000":1}', "cannot be the name of a column", id="NUL in a name"),
        pytest.param(b'{"' + b"k" * 257 + b'":1}', "more than 256 characters", id="long name"),
        pytest.param(
            b"{" + b",".join(b'"k%d":1' % n for n in range(1_001)) + b"}",
            "more than 1,000 columns",
            id="many columns",
        ),
        pytest.param(
            b"{" + b",".join(b'"k%d":1' % n for n in range(1_000_000)) + b"}",
            "more than 200,000 values",
            id="a million keys",
        ),
        pytest.param(b'{"a":"' + b'\\"' * 500_000, "does not end", id="quotes without an end"),
    ],
)
def test_what_cannot_be_read_is_refused_by_line_and_reason(line: bytes, reason: str) -> None:
    report = validate(GOOD + b"\n" + line + b"\n" + GOOD)

    assert report.error_count == 1
    assert report.errors[0].line == 3
    assert reason in report.errors[0].reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file has no rows"),
        (b"\n\r\n \n", "the file has no rows"),
        (b"\xef\xbb\xbf", "the file has no rows"),
        ('{"text":"a"}\n'.encode("utf-16"), "line 1: the file is UTF-16; save it as UTF-8"),
        (b"PK\x03\x04\n\n", "line 1: the file is a zip archive; upload the file in it"),
    ],
)
def test_a_file_that_is_no_jsonl_at_all_is_said_once(data: bytes, reason: str) -> None:
    assert reasons(data) == [reason]


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"text": "a", "id": 1}, "text"),
        ({"messages": [USER, REPLY]}, "messages"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"prompt": [USER], "completion": [REPLY]}, "prompt_completion"),
        ({"instruction": "a", "output": "b"}, "alpaca"),
        ({"instruction": "a", "input": None, "output": "b"}, "alpaca"),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            "conversations",
        ),
        ({"input_ids": [1, 2], "labels": [-100, 2]}, "input_ids"),
        ({"instruction": "a", "answer": "b"}, "columns"),
        ({"text": 5}, "columns"),
        ({"prompt": "a"}, "columns"),
        ({"messages": "a string"}, "columns"),
        ({"text": "a", "prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"text": "a", "prompt": "a", "completion": "b", "messages": [REPLY]}, "messages"),
    ],
)
def test_the_first_row_decides_the_shape(row: dict[str, Any], shape: str) -> None:
    report = validate(lines(row, row))

    assert (report.shape, report.errors) == (shape, ())


@pytest.mark.parametrize(
    ("first", "later", "error"),
    [
        ({"text": "a"}, {"txt": "a"}, 'line 2: no "text"; the rows before it have one'),
        ({"text": "a"}, {"text": None}, 'line 2: "text" is null; a string is needed'),
        ({"text": "a"}, {"text": 1}, 'line 2: "text" is a number; a string is needed'),
        (
            {"messages": [USER, REPLY]},
            {"messages": "a"},
            'line 2: "messages" is a string; a list of messages is needed',
        ),
        (
            {"prompt": "a", "completion": "b"},
            {"prompt": [USER], "completion": [REPLY]},
            'line 2: "prompt" is a list; a string is needed',
        ),
        (
            {"prompt": "a", "completion": "b"},
            {"prompt": "a"},
            'line 2: no "completion"; the rows before it have one',
        ),
    ],
)
def test_a_later_row_of_another_shape_is_refused(
    first: dict[str, Any], later: dict[str, Any], error: str
) -> None:
    assert reasons(lines(first, later)) == [error]


@pytest.mark.parametrize(
    ("message", "column", "reason"),
    [
        (
            {"role": "boss", "content": "a"},
            "messages[1].role",
            'messages[1].role is "boss"; use user, assistant, system or tool',
        ),
        ({"content": "a"}, "messages[1].role", "messages[1].role is missing"),
        ({"role": ["user"], "content": "a"}, "messages[1].role", "messages[1].role is a list"),
        ("hello", "messages[1]", "messages[1] is a string; an object is needed"),
        ({"role": "user", "content": None}, "messages[1].content", "messages[1].content is null"),
        ({"role": "user"}, "messages[1].content", "messages[1].content is missing"),
        ({"role": "user", "content": [USER]}, "messages[1].content", "is a list"),
        (
            {"role": "user", "content": None, "tool_calls": [{}]},
            "messages[1].content",
            "only an assistant's tool_calls",
        ),
        ({**REPLY, "weight": 2}, "messages[1].weight", "must be 0 or 1"),
        ({**REPLY, "weight": True}, "messages[1].weight", "must be 0 or 1"),
        ({**USER, "weight": 1}, "messages[1].weight", "only messages of the assistant"),
    ],
)
def test_a_bad_message_is_named_by_its_path(message: Any, column: str, reason: str) -> None:
    report = validate(lines({"messages": [USER, message, REPLY]}))

    assert report.shape == "messages"
    assert [error.column for error in report.errors] == [column]
    assert reason in report.errors[0].reason


def test_messages_with_tools_and_weights_are_accepted() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    answer = {"role": "tool", "content": "42", "tool_call_id": "1"}

    assert reasons(lines({"messages": [USER, call, answer, {**REPLY, "weight": 0}]})) == []


@pytest.mark.parametrize("messages", [[], [USER]])
def test_messages_without_an_answer_teach_nothing(messages: list[Any]) -> None:
    assert validate(lines({"messages": messages})).errors[0].column == "messages"


def test_columns_count_what_is_missing_and_null() -> None:
    report = validate(
        b"\n" + lines({"a": 1, "b": "x"}, {"a": None, "c": 2.5}, {"a": True, "b": None})
    )

    assert report.shape == "columns"
    assert report.errors == ()
    assert report.to_dict()["columns"] == {
        "a": {
            "rows": 3,
            "types": {"integer": 1, "null": 1, "boolean": 1},
            "first_missing_line": None,
            "first_null_line": 3,
        },
        "b": {
            "rows": 2,
            "types": {"string": 1, "null": 1},
            "first_missing_line": 3,
            "first_null_line": 4,
        },
        "c": {
            "rows": 1,
            "types": {"number": 1},
            "first_missing_line": 2,
            "first_null_line": None,
        },
    }


def test_many_different_rows_are_counted_as_few_would_be() -> None:
    """More patterns than are kept apart: the counts survive being spread."""
    rows = [{f"k{bit}": 1 for bit in range(12) if number >> bit & 1} for number in range(1, 4096)]

    report = validate(lines(*rows))

    assert report.rows == 4095
    assert {column.rows for column in report.columns.values()} == {2048}
    assert report.columns["k0"].first_missing_line == 2
    assert report.columns["k5"].first_missing_line == 1


def test_only_the_first_errors_are_kept_and_all_are_counted() -> None:
    report = validate(GOOD + b"nonsense\n" * 100)

    assert [error.line for error in report.errors] == list(range(2, 22))
    assert report.error_count == 100


def test_the_sample_is_the_first_good_row_with_its_strings_cut() -> None:
    report = validate(lines({"text": None}, {"text": "x" * 600, "a": ["y\0"]}))

    assert report.sample == {"text": "x" * 500, "a": ["y\N{REPLACEMENT CHARACTER}"]}


def test_a_sample_that_is_large_all_the_same_is_not_kept() -> None:
    assert validate(lines({"ids": list(range(100_000))})).sample is None


def test_a_line_of_the_limit_is_read_and_one_byte_more_is_not() -> None:
    row = b'{"text":"' + b"a" * 89 + b'"}'

    assert len(row) == 100
    assert reasons(row, max_line_bytes=100) == []
    assert reasons(row + b" ", max_line_bytes=100) == ["line 1: the line is longer than 100 bytes"]
    assert validate(GOOD + row + b" \n" + GOOD, max_line_bytes=100).rows == 2


def test_an_endless_line_is_never_in_memory() -> None:
    validator = JsonlValidator(max_line_bytes=1024 * 1024)
    chunk = b"x" * 100_000
    tracemalloc.start()

    for _ in range(2_000):
        validator.feed(chunk)
    validator.feed(b"\n" + GOOD)
    report = validator.finish()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert [str(error) for error in report.errors] == ["line 1: the line is longer than 1 MiB"]
    assert report.rows == 1
    assert peak < 4 * 1024 * 1024


def test_memory_does_not_grow_with_the_rows() -> None:
    validator = JsonlValidator()
    chunk = lines(*({"text": "a" * 100} for _ in range(1_000)))
    tracemalloc.start()

    for _ in range(100):
        validator.feed(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert validator.finish().rows == 100_000
    assert peak < 4 * 1024 * 1024


FRAGMENTS = st.sampled_from(
    [
        b"\xef\xbb\xbf", b"\n", b"\r\n", b"  ", b"x" * 70, b"nonsense", b"[", b"{", b"\x00",
        b"\xff\xfe", b"\xff", b"PAR1", '{"text":"\u00e9\u2028"}'.encode(), b'{"text":null}',
        GOOD, GOOD.rstrip(), b'{"a":[1],"text":"b"}\n', lines({"messages": [USER, REPLY]}),
    ]
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=12).map(b"".join), st.lists(st.integers(0, 600), max_size=20))
@example(b"\xff\xfe\n\xff\xfe\n", [3])
@example(b"\xff\xfe\n" + b"x" * 70, [3])
def test_where_chunks_are_cut_changes_nothing(data: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    validator = JsonlValidator(max_line_bytes=64)

    for start, end in pairwise(bounds):
        validator.feed(data[start:end])

    assert validator.finish() == validate(data, max_line_bytes=64)


@given(st.lists(FRAGMENTS, max_size=12).map(b"".join))
def test_a_report_survives_json(data: bytes) -> None:
    report = validate(data, max_line_bytes=64)

    assert FileReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "id"]), JSON, min_size=1), min_size=1))
def test_any_objects_are_columns_and_are_counted(rows: list[dict[str, Any]]) -> None:
    report = validate(lines(*rows))

    assert (report.rows, report.shape, report.errors) == (len(rows), "columns", ())
    for name, column in report.columns.items():
        having = [number for number, row in enumerate(rows, 1) if name in row]
        lacking = set(range(1, len(rows) + 1)) - set(having)
        assert column.rows == len(having) == sum(column.types.values())
        assert column.first_missing_line == min(lacking, default=None)


@pytest.mark.parametrize(
    ("rows", "text_field", "template"),
    [
        ([{"text": "a"}], None, False),
        ([{"text": "a", "body": "b"}], "body", False),
        ([{"messages": [USER, REPLY]}], None, False),
        ([{"messages": [USER, REPLY]}], "text", False),
        ([{"prompt": "a", "completion": "b"}], None, False),
        ([{"body": "a"}, {"body": "b"}], "body", False),
        ([{"body": "a"}, {"other": None}], None, True),
    ],
)
def test_a_usable_file_is_usable(
    rows: list[dict[str, Any]], text_field: str | None, template: bool
) -> None:
    check_usable(
        validate(lines(*rows)), text_field=text_field, template=template, param="training_file"
    )


@pytest.mark.parametrize(
    ("rows", "text_field", "words"),
    [
        (
            [{"question": "a", "score": 1}],
            None,
            'The rows have no "text". The columns are "question", "score". Set '
            "training.dataset_text_field to one with a string in every row "
            '("question"), or give a template.',
        ),
        ([{"a": 1}], None, "None has a string in every row: give a template"),
        ([{"body": "a"}, {"id": 1}], "body", 'Line 2 has no "body".'),
        ([{"body": "a"}, {"body": None}], "body", '"body" is null in line 2.'),
        ([{"body": "a"}, {"body": 1}], "body", "not a string in every row (but: integer)"),
        ([{"text": "a"}], "body", 'The rows have no "body".'),
        ([{"messages": [USER, REPLY]}], "body", 'The rows have no "body".'),
        ([{"messages": [REPLY], "text": 1}], "text", '"text" is not a string'),
    ],
)
def test_an_unusable_file_says_what_to_do(
    rows: list[dict[str, Any]], text_field: str | None, words: str
) -> None:
    report = validate(lines(*rows))

    with pytest.raises(InvalidFile) as raised:
        check_usable(report, text_field=text_field, template=False, param="validation_file")

    assert words in raised.value.message
    assert raised.value.param == "validation_file"
