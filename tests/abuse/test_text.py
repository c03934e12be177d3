"""Text that wants to be more: a script, a command of the terminal, an event, a line, a formula.

In the page: `tests/page/test_look.py`, `tests/page/test_job.py`; what a child prints:
`tests/worker/test_loglines.py`; what the command shows: `tests/cli`.
"""

import csv
import io
import json
import logging
from urllib.parse import quote

import pytest

from core.logs import FORMAT, OneLine
from tests.abuse.test_cases import case
from tests.api.conftest import JOBS, Site, line, metrics, problem_of

TEXTS = [
    case("<img src=x onerror=alert(1)>", id="markup"),
    case("</script><script>alert(1)</script>", id="a script"),
    case("javascript:alert(1)", id="an address"),
    case("\x1b]0;title\x07\x1b[2J", id="the terminal"),
    case("a\nid: 99\nevent: state\ndata: {}\n\n", id="an event"),
    case("a\r\nid: 99\r\n\r\ndata: {}", id="an event of other lines"),
    case("\u2028\u2029\u0085", id="other ends of lines"),
    case("\u202etxet", id="right to left"),
    case("=HYPERLINK(1)", id="a formula"),
    case("%s %(x)s {0} {x.__class__}", id="a format"),
    case("a" * 100_000, id="a long line"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_line_of_a_training_is_one_event(site: Site, text: str) -> None:
    lease = site.start()
    site.record(lease, line(text), line("after"))
    site.succeed(lease)

    response = site.client.get(
        f"{JOBS}/{lease.job_id}/events", headers={"accept": "text/event-stream"}
    )

    frames = response.text.removesuffix("\n\n").split("\n\n")[1:]
    fields = [[entry.partition(": ") for entry in frame.split("\n")] for frame in frames]
    assert {tuple(name for name, _, _ in frame) for frame in fields} == {("id", "event", "data")}
    assert [int(frame[0][2]) for frame in fields] == list(range(1, len(frames) + 1))
    messages = [json.loads(frame[2][2])["message"] for frame in fields]
    assert messages.count(text) == 1
    page = site.client.get(f"{JOBS}/{lease.job_id}/events")
    assert page.headers["content-type"] == "application/json"
    assert text in [event["message"] for event in page.json()["data"]]


@pytest.mark.parametrize("text", TEXTS)
def test_names_come_back_as_they_are_and_write_no_line_of_a_log(
    site: Site, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    caplog.set_level(logging.DEBUG)
    name = text[:60]

    job = site.post_job(metadata={"note": name}).json()
    for path in (f"/v1/files/{quote(name)}", f"/v1/nothing/{quote(name)}"):
        problem_of(site.client.get(path), 404)
    problem_of(site.post_job(model=f"../{name}"), 400)
    logging.getLogger("app").info("somebody said %s", name)

    assert job["metadata"] == {"note": name}
    lines = [OneLine(FORMAT).format(record) for record in caplog.records]
    assert len(lines) > 4
    assert [written for written in lines if not written.isprintable()] == []


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@a", "\tx", "\rx", "plain"])
def test_no_cell_that_we_write_is_a_formula(site: Site, name: str) -> None:
    lease = site.start()
    site.record(lease, metrics(1, train_loss=-2.5, **{name: -1.0}))

    response = site.client.get(f"{JOBS}/{lease.job_id}/metrics?format=csv")

    header, row = csv.reader(io.StringIO(response.text, newline=""))
    shown = name if name == "plain" else f"'{name}".replace("\r", " ")
    assert header == ["step", "train_loss", shown]
    # A number may have a sign.
    assert row == ["1", "-2.5", "-1.0"]
