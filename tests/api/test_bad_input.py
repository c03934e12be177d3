"""Whatever is sent: an exact status, a code, the name of the field, and nothing left behind."""

from collections.abc import Callable
from typing import Any

import pytest

from core.files import list_files
from core.jobs import list_jobs
from tests.api.conftest import JOBS, NO_FILE, NO_JOB, ROWS, Site, jsonl, problem_of

CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
HUGE = 10**30
LONG = "9" * 5000
"""More digits than Python's int() takes."""


def lines(count: int, bad: bytes, at: int) -> bytes:
    """Good rows but for one."""
    good = [b'{"text": "a"}'] * count
    good[at - 1] = bad
    return b"\n".join(good) + b"\n"


def case(*values: Any, id: str) -> Any:
    """One row of a table."""
    return pytest.param(*values, id=id)


BAD_FILES = [
    case(b"", "no rows", id="nothing at all"),
    case(b"\n \n\n", "no rows", id="blank lines only"),
    case(lines(9, b'{"text": "a"', 7), "line 7", id="broken JSON on line 7"),
    case(lines(9, b'{"text": NaN}', 7), "line 7", id="NaN on line 7"),
    case(lines(9, b"{'text': 'a'}", 7), "line 7", id="Python for JSON"),
    case(lines(9, b'["a"]', 7), "line 7: the line is a list", id="a list on line 7"),
    case(lines(9, b'{"text": null}', 7), 'line 7: "text" is null', id="null in text"),
    case(lines(9, b'{"text": 5}', 7), 'line 7: "text" is a number', id="a number in text"),
    case(lines(9, b'{"other": "a"}', 7), 'line 7: no "text"', id="a row without text"),
    case(jsonl({"text": "a"}, CHAT), 'line 2: no "text"', id="text, then messages"),
    case(jsonl(CHAT, {"text": "a"}), 'line 2: no "messages"', id="messages, then text"),
    case(jsonl({"text": None}), "line 1", id="null in the first text"),
    case(jsonl({"messages": []}), "line 1", id="no messages"),
    case(jsonl({"messages": [{"role": "boss", "content": "a"}]}), "role", id="an unknown role"),
    case(b'{"text": "\xff"}', "UTF-8", id="not UTF-8"),
    case(b'{"text": "\\ud800"}', "surrogate", id="half of a surrogate pair"),
    case('{"text": "a"}'.encode("utf-16"), "UTF-16", id="UTF-16"),
    case(b"\x1f\x8b\x08\x00", "gzip", id="gzip"),
    case(b'{"text":' + b"[" * 200_000, "line 1", id="a depth bomb"),
]

BAD_JOBS = [
    case({"model": "local/nope"}, 404, "model_not_found", "model", "local/tiny", id="local model"),
    case({"model": f"jobs/{NO_JOB}"}, 404, "model_not_found", "model", NO_JOB, id="job's model"),
    case({"model": "../../etc"}, 400, "invalid_argument", "model", "not a model", id="../../etc"),
    case({"model": "local/../../etc"}, 400, "invalid_argument", "model", "", id="local/../../etc"),
    case({"model": "/etc/passwd"}, 400, "invalid_argument", "model", "", id="an absolute path"),
    case({"model": ""}, 400, "invalid_argument", "model", "", id="an empty model"),
    case({"model": 5}, 400, "invalid_argument", "model", "string", id="a number for a model"),
    case({"training_file": NO_FILE}, 404, "file_not_found", "training_file", "", id="no file"),
    case({"validation_file": NO_FILE}, 404, "file_not_found", "validation_file", "", id="no eval"),
    case({"training_file": "../x"}, 404, "file_not_found", "training_file", "", id="path for file"),
    case({"training_file": None}, 400, "invalid_argument", "training_file", "", id="no data"),
    case(
        {"dataset": {"path": "a/b"}, "training_file": NO_FILE},
        400, "invalid_argument", "training_file", "not both", id="both file and dataset",
    ),
    case(
        {"dataset": {"path": "../etc"}, "training_file": None},
        400, "invalid_argument", "dataset.path", "", id="a path for a dataset",
    ),
    case(
        {"dataset": {"path": "a/b", "streaming": True}},
        400, "invalid_argument", "training.max_steps", "how far", id="a stream without an end",
    ),
    case(
        {"dataset": {"path": "a/b", "streaming": True},
         "training": {"max_steps": 4, "packing": True}},
        400, "invalid_argument", "training.packing", "not packed", id="a stream to be packed",
    ),
    case(
        {"dataset": {"path": "a/b", "streaming": True, "split": "train[:9]"},
         "training": {"max_steps": 4}},
        400, "invalid_argument", "dataset.split", "slice", id="a slice of a stream",
    ),
    case(
        {"training": {"gradient_accumulation_stepz": 2}},
        400, "unknown_argument", "training.gradient_accumulation_stepz",
        '"gradient_accumulation_steps"', id="a misspelt argument",
    ),
    case(
        {"training": {"output_dir": "/etc"}},
        400, "forbidden_argument", "training.output_dir", "cannot be set here: ", id="output_dir",
    ),
    case(
        {"training": {"learning_rate": -1e-4}},
        400, "invalid_argument", "training.learning_rate", "-0.0001", id="a negative rate",
    ),
    case(
        {"training": {"max_steps": HUGE}},
        400, "invalid_argument", "training.max_steps", "", id="a huge number",
    ),
    case(
        {"training": {"per_device_train_batch_size": 0}},
        400, "invalid_argument", "training.per_device_train_batch_size", "from 1", id="batch 0",
    ),
    case(
        {"training": {"learning_rate": "1e-4"}},
        400, "invalid_argument", "training.learning_rate", "the text", id="text for a number",
    ),
    case(
        {"training": {"bf16": True, "fp16": True}},
        400, "invalid_argument", "training.fp16", "both", id="two that exclude each other",
    ),
    case(
        {"training": {"eval_strategy": "epoch"}},
        400, "invalid_argument", "training.eval_strategy", "validation_file", id="nothing to eval",
    ),
    case({"training": [1]}, 400, "invalid_argument", "training", "", id="a list for training"),
    case({"peft": {"rank": 4}}, 400, "unknown_argument", "peft.rank", '"rank"', id="rank for r"),
    case({"peft": {"r": 0}}, 400, "invalid_argument", "peft.r", "", id="rank 0"),
    case({"quantization": {"load_in_4bit": True}}, 400, "invalid_argument", "quantization", "peft",
         id="quantization without peft"),
    case(
        {"hyperparameters": {"batch_size": 0}},
        400, "invalid_argument", "hyperparameters.batch_size", "", id="OpenAI's batch 0",
    ),
    case(
        {"hyperparameters": {"n_epochs": "many"}},
        400, "invalid_argument", "hyperparameters.n_epochs", "auto", id="OpenAI's epochs in words",
    ),
    case(
        {"hyperparameters": {"n_epochs": 2}, "training": {"num_train_epochs": 3}},
        400, "invalid_argument", "training.num_train_epochs", "n_epochs", id="epochs twice",
    ),
    case({"method": {"type": "dpo"}}, 400, "invalid_argument", "method.type", "", id="DPO"),
    case({"seed": -1}, 400, "invalid_argument", "seed", "", id="a negative seed"),
    case({"seed": 2**31}, 400, "invalid_argument", "seed", "", id="a seed that is too large"),
    case(
        {"seed": 1, "training": {"seed": 2}}, 400, "invalid_argument", "training.seed", "",
        id="two seeds",
    ),
    case({"priority": HUGE}, 400, "invalid_argument", "priority", "", id="a huge priority"),
    case({"metadata": {"a": 1}}, 400, "invalid_argument", "metadata.a", "", id="a number as label"),
    case({"metadata": {"a": "b" * 513}}, 400, "invalid_argument", "metadata.a", "", id="long"),
    case(
        {"metadata": {str(key): "" for key in range(17)}},
        400, "invalid_argument", "metadata", "", id="17 labels",
    ),
    case(
        {"trainning": {}}, 400, "unknown_argument", "trainning", '"training"',
        id="a misspelt field",
    ),
    case(
        {"integrations": [{"type": "wandb"}]}, 400, "invalid_argument", "integrations", "",
        id="wandb",
    ),
    case(
        {"template": "{{ text }}\n{% if %}"},
        400, "invalid_template", "template", "line 2", id="a template with a mistake",
    ),
    case(
        {"template": "{{ txet }}"},
        400, "invalid_template", "template", '"txet"; the columns of the row are "text"',
        id="a template with an unknown column",
    ),
    case(
        {"template": "{{ ''.__class__.__mro__ }}"},
        400, "invalid_template", "template", "", id="a template that breaks out",
    ),
]  # fmt: skip

BAD_BODIES = [
    case(b"", 400, id="an empty body"),
    case(b"   ", 400, id="blanks"),
    case(b"{", 400, id="half an object"),
    case(b"[]", 400, id="an array"),
    case(b'[{"model": "local/tiny"}]', 400, id="an array of objects"),
    case(b"null", 400, id="null"),
    case(b'"model"', 400, id="a string"),
    case(b"5", 400, id="a number"),
    case(b'{"model": "local/tiny", "training": {"learning_rate": NaN}}', 400, id="NaN"),
    case(b'{"training": {"learning_rate": Infinity}}', 400, id="Infinity"),
    case(b'{"training": {"learning_rate": 1e999}}', 400, id="a number beyond all floats"),
    case(b'{"seed": ' + LONG.encode() + b"}", 400, id="5000 digits"),
    case(b'{"model": "\\ud800"}', 400, id="half of a surrogate pair"),
    case(b'{"\\ud800": 1}', 400, id="half of a surrogate pair in a name"),
    case(b'{"model": "\xed\xa0\x80"}', 400, id="half of a surrogate pair as bytes"),
    case(b'{"model": "a\\u0000b"}', 400, id="NUL"),
    case(b'{"model": "local/tiny", "training": {"a\\u0000b": 1}}', 400, id="NUL in a name"),
    case(b'{"metadata": {"a": "b\\u0000c"}, "model": "local/tiny"}', 400, id="NUL in a label"),
    case(b'{"training": ' + b'{"a":' * 100_000, 400, id="a depth bomb"),
    case(b"[" * 100_000 + b"]" * 100_000, 400, id="a depth bomb of arrays"),
    case(b'{"training":' + b'{"a":' * 100 + b"1" + b"}" * 101, 400, id="100 levels"),
    case("{}".encode("utf-16"), 400, id="UTF-16"),
    case(b'{"model": "' + b"a" * 2_000_000 + b'"}', 413, id="2 MB"),
    case(b"{" + b" " * 2_000_000 + b"}", 413, id="2 MB of blanks"),
]

BAD_PATHS = [
    case(f"/v1/files?after={NO_FILE}", 404, "file_not_found", id="page after no file"),
    case(f"{JOBS}?after={NO_JOB}", 404, "job_not_found", id="page after no job"),
    case(f"{JOBS}?limit=0", 400, "invalid_argument", id="limit 0"),
    case(f"{JOBS}?limit=101", 400, "invalid_argument", id="limit 101"),
    case(f"{JOBS}?limit=-1", 400, "invalid_argument", id="a negative limit"),
    case(f"{JOBS}?limit=ten", 400, "invalid_argument", id="limit in words"),
    case(f"{JOBS}?limit={LONG}", 400, "invalid_argument", id="limit of 5000 digits"),
    case("/v1/files?order=up", 400, "invalid_argument", id="an unknown order"),
    case("/v1/files/%00", 400, "invalid_argument", id="NUL for a file"),
    case("/v1/files/a%00b/content", 400, "invalid_argument", id="NUL for content"),
    case(f"{JOBS}/%00", 400, "invalid_argument", id="NUL for a job"),
    case(f"{JOBS}?after=%00", 400, "invalid_argument", id="NUL in after"),
    case(f"{JOBS}?metadata[a]=%00", 400, "invalid_argument", id="NUL in a label"),
    case(f"{JOBS}?metadata[%00]=a", 400, "invalid_argument", id="NUL in the name of a label"),
    case("/v1/files?purpose=%00", 400, "invalid_argument", id="NUL in a purpose"),
    case("/v1/models/%00", 400, "invalid_argument", id="NUL for a model"),
    case("/v1/files/..%2F..%2Fetc%2Fpasswd", 404, "not_found", id="a path for a file"),
    case("/v1/files/%ED%A0%80", 404, "file_not_found", id="bytes that are no text"),
    case("/v1/files/" + "a" * 5000, 404, "file_not_found", id="a long id"),
    case("/v1/models/../../etc", 404, "not_found", id="a path for a model"),
    case("/v1/models/local/nope", 404, "model_not_found", id="an unknown model"),
]

BAD_JOB_PATHS = [
    case("events?after=5x", 400, "invalid_argument", "after", id="no event"),
    case(
        f"events?after=ftevent-{'0' * 24}-1", 400, "invalid_argument", "after", id="another job's"
    ),
    case(f"events?after={2**63}", 400, "invalid_argument", "after", id="beyond 64 bits"),
    case(f"events?after={LONG}", 400, "invalid_argument", "after", id="5000 digits"),
    case("logs?tail=%00", 400, "invalid_argument", None, id="NUL"),
    case("events?kind=nothing", 400, "invalid_argument", "kind", id="an unknown kind"),
    case("events?limit=101", 400, "invalid_argument", "limit", id="too many events"),
    case("logs?tail=0", 400, "invalid_argument", "tail", id="tail 0"),
    case(f"logs?tail={HUGE}", 400, "invalid_argument", "tail", id="a huge tail"),
    case("metrics?format=xml", 400, "invalid_argument", "format", id="metrics in XML"),
    case("checkpoints/5", 404, "checkpoint_not_found", "step", id="an unknown checkpoint"),
    case("checkpoints/five", 400, "invalid_argument", "step", id="a step in words"),
    case("checkpoints/-1", 400, "invalid_argument", "step", id="a negative step"),
    case(f"checkpoints/{2**64}", 400, "invalid_argument", "step", id="a huge step"),
    case("checkpoints?after=nothing", 404, "checkpoint_not_found", "after", id="no checkpoint"),
    case("checkpoints/5/archive?part=none", 400, "invalid_argument", "part", id="no such part"),
    case("checkpoints/5/files/a", 404, "checkpoint_not_found", "step", id="a file of nothing"),
]


def _rows(site: Site) -> int:
    with site.database.read() as session:
        return len(list_files(session)) + len(list_jobs(session))


@pytest.mark.parametrize(("content", "words"), BAD_FILES)
def test_a_bad_file_is_refused_and_leaves_nothing(site: Site, content: bytes, words: str) -> None:
    error = problem_of(site.post_file(content), 400)

    assert (error["code"], error["param"]) == ("invalid_file", "file")
    assert words in error["message"]
    assert site.stored() == []
    assert _rows(site) == 0


def test_all_of_the_first_bad_lines_are_listed(site: Site) -> None:
    content = jsonl({"text": "a"}, *[{"text": None}] * 30)

    error = problem_of(site.post_file(content), 400)

    assert error["error_count"] == 30
    assert [item["line"] for item in error["errors"]] == list(range(2, 22))
    assert "27 more errors" in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"data": {"purpose": "nothing"}, "files": {"file": ROWS}}, "purpose"),
        ({"data": {"purpose": "fine\0tune"}, "files": {"file": ROWS}}, "purpose"),
        ({"files": {"file": ROWS}}, "purpose"),
        ({"data": {"purpose": "fine-tune"}}, "file"),
        ({"data": {"purpose": "fine-tune", "file": "text"}}, "file"),
        ({"json": {"purpose": "fine-tune"}}, "file"),
        ({}, "file"),
    ],
    ids=["purpose", "NUL", "no purpose", "no file", "text for a file", "JSON", "no body"],
)
def test_a_bad_form_is_refused(site: Site, fields: dict[str, Any], param: str) -> None:
    error = problem_of(site.client.post("/v1/files", **fields), 400)

    assert (error["code"], error["param"]) == ("invalid_argument", param)
    assert site.stored() == []


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=y"])
def test_a_form_without_its_boundary_is_refused(site: Site, content_type: str) -> None:
    body = b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\na\r\n--x--\r\n'

    response = site.client.post("/v1/files", content=body, headers={"content-type": content_type})

    problem_of(response, 400)
    assert site.stored() == []


@pytest.mark.parametrize("name", [b"a\\0b", b"a%00b", b"a\0b", b"\xff\xfe", b"\xed\xa0\x80"])
def test_no_name_of_a_file_breaks_the_server(site: Site, name: bytes) -> None:
    body = (
        b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
        + ROWS
        + b"\r\n--x--\r\n"
    )  # fmt: skip

    response = site.client.post(
        "/v1/files", content=body, headers={"content-type": "multipart/form-data; boundary=x"}
    )

    assert response.status_code in (200, 400), response.text
    assert len(site.stored()) == (response.status_code == 200)


@pytest.mark.parametrize(("body", "status", "code", "param", "words"), BAD_JOBS)
def test_a_bad_job_is_refused(
    site: Site, body: dict[str, Any], status: int, code: str, param: str, words: str
) -> None:
    error = problem_of(site.post_job(**body), status)

    assert (error["code"], error["param"]) == (code, param)
    assert words in error["message"]
    with site.database.read() as session:
        assert list_jobs(session) == []


def test_a_job_without_a_model_is_refused(site: Site) -> None:
    error = problem_of(site.client.post(JOBS, json={"training_file": NO_FILE}), 400)

    assert (error["code"], error["param"]) == ("invalid_argument", "model")


@pytest.mark.parametrize(("content", "status"), BAD_BODIES)
def test_a_body_that_is_no_job_is_refused(site: Site, content: bytes, status: int) -> None:
    response = site.client.post(JOBS, content=content)

    error = problem_of(response, status)
    assert len(error["message"]) < 500
    assert _rows(site) == 0


@pytest.mark.parametrize(
    ("rows", "training", "words"),
    [
        ([{"body": "a"}], {}, 'no "text". The columns are "body"'),
        ([{"body": "a"}], {"dataset_text_field": "bdy"}, 'no "bdy". The columns are "body"'),
        ([{"a": "x"}, {"b": "y"}], {"dataset_text_field": "a"}, 'Line 2 has no "a"'),
        ([{"a": "x"}, {"a": None}], {"dataset_text_field": "a"}, '"a" is null in line 2'),
        ([{"a": 1}], {"dataset_text_field": "a"}, "not a string in every row (but: integer)"),
    ],
    ids=["no text", "misspelt", "missing", "null", "a number"],
)
def test_a_file_without_the_text_field_cannot_be_trained_on(
    site: Site, rows: list[Any], training: dict[str, Any], words: str
) -> None:
    file_id = site.upload(jsonl(*rows))

    error = problem_of(site.post_job(training_file=file_id, training=training), 400)

    assert (error["code"], error["param"]) == ("invalid_file", "training_file")
    assert words in error["message"]


def test_a_file_for_another_purpose_cannot_be_trained_on(site: Site) -> None:
    file_id = site.upload(purpose="user_data")

    error = problem_of(site.post_job(training_file=file_id), 400)

    assert (error["code"], error["param"]) == ("invalid_file", "training_file")
    assert '"fine-tune"' in error["message"]


def test_a_step_that_was_not_saved_cannot_be_trained_on(site: Site) -> None:
    lease = site.start()
    site.publish(lease, 4, {"a": b"a"})

    error = problem_of(site.post_job(model=f"jobs/{lease.job_id}.step-5"), 404)

    assert (error["code"], error["param"]) == ("model_not_found", "model")


@pytest.mark.parametrize(("path", "status", "code"), BAD_PATHS)
def test_a_bad_path_is_refused(site: Site, path: str, status: int, code: str) -> None:
    assert problem_of(site.client.get(path), status)["code"] == code


@pytest.mark.parametrize(("path", "status", "code", "param"), BAD_JOB_PATHS)
def test_a_bad_path_below_a_job_is_refused(
    site: Site, path: str, status: int, code: str, param: str | None
) -> None:
    error = problem_of(site.client.get(f"{JOBS}/{site.submit()}/{path}"), status)

    assert (error["code"], error["param"]) == (code, param)


@pytest.mark.parametrize("last", ["x", "-1", LONG, str(2**63), "\xb2", "1.5"])
def test_a_stream_from_no_event_is_refused(site: Site, last: str) -> None:
    headers = {"accept": "text/event-stream", "last-event-id": last.encode("latin-1")}
    path = f"{JOBS}/{site.submit()}/events"

    assert problem_of(site.client.get(path, headers=headers), 400)["code"] == "invalid_argument"


@pytest.mark.parametrize(
    "change",
    [
        lambda site, job: site.client.post(f"{JOBS}/{job}/cancel?save=maybe"),
        lambda site, job: site.client.post(f"{JOBS}/{job}/retry", content=b"[]"),
        lambda site, job: site.client.post(f"{JOBS}/{job}/retry", content=b"{"),
        lambda site, job: site.client.post(f"{JOBS}/{job}/retry", json={"model": "a"}),
    ],
    ids=["save=maybe", "retry []", "retry {", "retry with a model"],
)
def test_a_bad_change_of_a_job_changes_nothing(
    site: Site, change: Callable[[Site, str], Any]
) -> None:
    job_id = site.submit()
    before = site.client.get(f"{JOBS}/{job_id}").json()

    problem_of(change(site, job_id), 400)

    assert site.client.get(f"{JOBS}/{job_id}").json() == before
