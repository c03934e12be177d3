"""Events in pages and live, the log as text, metrics as columns."""

import csv
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import httpx
import pytest

from core.events import NewEvent
from core.queue import Lease
from core.states import EventKind
from tests.api.conftest import JOBS, Site, line, metrics

pytestmark = pytest.mark.every_database

STREAM = {"accept": "text/event-stream"}


def _path(lease: Lease, what: str = "events") -> str:
    return f"{JOBS}/{lease.job_id}/{what}"


def _frames(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The server-sent events of a stream: id, event and data of each."""
    frame: dict[str, Any] = {}
    for text in response.iter_lines():
        if not text and "data" in frame:
            yield frame
        if not text:
            frame = {}
            continue
        name, _, value = text.partition(": ")
        frame[name] = json.loads(value) if name == "data" else value


def _all_frames(site: Site, lease: Lease, **headers: str) -> list[dict[str, Any]]:
    return list(_frames(site.client.get(_path(lease), headers=STREAM | headers)))


@contextmanager
def _streaming(url: str, lease: Lease, after: int) -> Iterator[Iterator[dict[str, Any]]]:
    headers = STREAM | ({"last-event-id": str(after)} if after else {})
    address = f"{url}{_path(lease)}"
    with httpx.stream("GET", address, headers=headers, timeout=30) as response:
        assert response.status_code == 200
        yield _frames(response)


def _finished(site: Site, count: int) -> Lease:
    """A job that wrote `count` lines and succeeded: two events before them, one after."""
    lease = site.start()
    site.record(lease, *(line(f"line {number}") for number in range(count)))
    site.succeed(lease)
    return lease


def test_events_come_in_pages_the_newest_first(site: Site) -> None:
    lease = _finished(site, 7)

    first = site.client.get(_path(lease), params={"limit": 4}).json()
    second = site.client.get(_path(lease), params={"limit": 9, "after": first["last_id"]}).json()

    numbers = [int(item["id"].rpartition("-")[2]) for item in first["data"] + second["data"]]
    assert numbers == list(range(10, 0, -1))
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert first["data"][0]["message"] == "The job has successfully completed"
    assert first["data"][0]["object"] == "fine_tuning.job.event"


def test_an_event_tells_what_it_is_about(site: Site) -> None:
    lease = site.start()
    site.record(lease, line("hello"), metrics(1, train_loss=2.5))

    newest, log, state, *_ = site.client.get(_path(lease)).json()["data"]

    assert (newest["type"], newest["data"]) == ("metrics", {"step": 1, "train_loss": 2.5})
    assert (log["type"], log["message"], log["data"]) == ("message", "hello", {"kind": "log"})
    assert state["data"]["kind"] == "state"
    assert state["data"]["status"] == "running"


def test_events_are_filtered_by_kind(site: Site) -> None:
    lease = site.start()
    site.record(lease, line("a"), metrics(1, train_loss=2.5), line("b"))

    page = site.client.get(_path(lease), params={"kind": "log", "limit": 1}).json()

    assert [item["message"] for item in page["data"]] == ["b"]
    assert page["has_more"] is True


def test_the_log_is_everything_that_was_printed(site: Site) -> None:
    lease = site.start()
    printed = [f"line {number} gr\u00fc\u00dfe" for number in range(2500)]
    site.record(lease, *map(line, printed))
    site.record(lease, metrics(1, train_loss=2.5))

    response = site.client.get(_path(lease, "logs"))

    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text.splitlines() == printed


@pytest.mark.parametrize(("tail", "shown"), [(1, 1), (3, 3), (5, 5), (50, 5)])
def test_the_tail_of_the_log_is_its_last_lines(site: Site, tail: int, shown: int) -> None:
    lease = site.start()
    for number in range(5):
        site.record(lease, line(f"line {number}"), metrics(number, train_loss=1.0))

    response = site.client.get(_path(lease, "logs"), params={"tail": tail})

    assert response.text.splitlines() == [f"line {number}" for number in range(5)][-shown:]


@pytest.mark.parametrize("query", ["", "?tail=5"])
def test_a_log_of_nothing_is_empty(site: Site, query: str) -> None:
    response = site.client.get(_path(site.start(), f"logs{query}"))

    assert (response.status_code, response.text) == (200, "")


def test_the_log_of_an_attempt_or_since_a_time(site: Site) -> None:
    first = site.start()
    old = NewEvent(kind=EventKind.LOG, message="old", created_at=datetime(2020, 1, 1, tzinfo=UTC))
    site.record(first, old, line("one"))
    site.release(first)
    site.record(site.claim(), line("two"), line("three"))

    def log(query: str) -> list[str]:
        path = f"{JOBS}/{first.job_id}/logs"
        return list(site.client.get(f"{path}?{query}").text.splitlines())

    assert log("attempt=1") == ["old", "one"]
    assert log("attempt=2&tail=1") == ["three"]
    assert log("attempt=1&tail=1") == ["one"]
    assert log("since=1577836801") == ["one", "two", "three"]
    assert log("attempt=3") == []


def test_metrics_are_columns_of_equal_length(site: Site) -> None:
    lease = site.start()
    site.record(lease, metrics(1, train_loss=2.5), metrics(2, train_loss=2.0))
    site.record(lease, metrics(2, eval_loss=2.25))

    columns = site.client.get(_path(lease, "metrics")).json()

    assert columns == {"step": [1, 2], "train_loss": [2.5, 2.0], "eval_loss": [None, 2.25]}


@pytest.mark.parametrize(
    ("query", "headers"),
    [("?format=csv", {}), ("", {"accept": "text/csv"})],
    ids=["query", "accept"],
)
def test_metrics_are_also_a_table(site: Site, query: str, headers: dict[str, str]) -> None:
    lease = site.start()
    site.record(lease, metrics(1, train_loss=2.5), metrics(2, train_loss=2.0, eval_loss=2.25))

    response = site.client.get(_path(lease, f"metrics{query}"), headers=headers)

    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert list(csv.reader(io.StringIO(response.text))) == [
        ["step", "train_loss", "eval_loss"],
        ["1", "2.5", ""],
        ["2", "2.0", "2.25"],
    ]


def test_metrics_of_nothing_are_one_empty_column(site: Site) -> None:
    assert site.client.get(_path(site.start(), "metrics")).json() == {"step": []}


def test_a_stream_of_a_finished_job_has_all_events_and_ends(site: Site) -> None:
    lease = _finished(site, 1200)

    frames = _all_frames(site, lease)

    assert [int(frame["id"]) for frame in frames] == list(range(1, 1204))
    assert frames[-1]["data"]["data"]["status"] == "succeeded"
    assert {frame["event"] for frame in frames} == {"message"}


def test_a_stream_shows_an_event_as_a_page_does(site: Site) -> None:
    lease = _finished(site, 2)

    frames = _all_frames(site, lease)

    page = site.client.get(_path(lease)).json()["data"]
    assert [frame["data"] for frame in frames] == page[::-1]


@pytest.mark.parametrize("last", ["7", "an id"])
def test_a_stream_goes_on_after_the_last_event(site: Site, last: str) -> None:
    lease = _finished(site, 7)
    if last == "an id":
        last = f"ftevent-{lease.job_id.removeprefix('ftjob-')}-7"

    frames = _all_frames(site, lease, **{"last-event-id": last})

    assert [int(frame["id"]) for frame in frames] == [8, 9, 10]


@pytest.mark.parametrize("last", ["10", "11", "999999"])
def test_a_stream_with_nothing_left_is_not_to_be_asked_for_again(site: Site, last: str) -> None:
    lease = _finished(site, 7)

    response = site.client.get(_path(lease), headers=STREAM | {"last-event-id": last})

    assert (response.status_code, response.content) == (204, b"")


def test_a_stream_says_that_nobody_may_keep_it(site: Site) -> None:
    response = site.client.get(_path(_finished(site, 1)), headers=STREAM)

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-request-id"]
    assert response.text.startswith("retry: ")


def test_readers_that_come_back_miss_nothing_and_get_nothing_twice(site: Site, url: str) -> None:
    lease = site.start()

    def write() -> None:
        for number in range(60):
            site.record(lease, *(line(f"line {number}.{part}") for part in range(number % 7 + 1)))
        site.succeed(lease)

    writer = threading.Thread(target=write)
    seen: list[int] = []
    statuses: list[str] = []
    writer.start()
    while "succeeded" not in statuses:
        with _streaming(url, lease, seen[-1] if seen else 0) as frames:
            for frame in islice(frames, 25):
                seen.append(int(frame["id"]))
                statuses.append(frame["data"]["data"].get("status"))
    writer.join()

    total = 2 + sum(number % 7 + 1 for number in range(60)) + 1
    assert seen == list(range(1, total + 1))


def test_a_live_stream_ends_by_itself_after_the_last_event(site: Site, url: str) -> None:
    lease = site.start()

    with _streaming(url, lease, 0) as frames:
        begun = [next(frames), next(frames)]
        site.record(lease, line("while somebody reads"))
        third = next(frames)
        site.succeed(lease)
        rest = list(frames)

    assert [int(frame["id"]) for frame in [*begun, third, *rest]] == [1, 2, 3, 4]
    assert third["data"]["message"] == "while somebody reads"
    assert rest[-1]["data"]["data"]["status"] == "succeeded"


def test_many_readers_of_many_jobs_get_their_own(site: Site, url: str) -> None:
    leases = [site.start() for _ in range(3)]
    got: dict[int, list[str]] = {}

    def read(number: int) -> None:
        with _streaming(url, leases[number % 3], 2) as frames:
            got[number] = [frame["data"]["message"] for frame in frames]

    readers = [threading.Thread(target=read, args=(number,)) for number in range(9)]
    for reader in readers:
        reader.start()
    for number, lease in enumerate(leases):
        site.record(lease, line(f"job {number}"))
        site.succeed(lease)
    for reader in readers:
        reader.join()

    end = "The job has successfully completed"
    assert got == {number: [f"job {number % 3}", end] for number in range(9)}
