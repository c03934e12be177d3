"""What the command prints of a job's log, from a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.client import Client
from cli.config import Connection
from cli.errors import Exit, UserError
from cli.logs import Wanted, log_lines
from core.queue import Lease
from tests.api.conftest import Site, line
from tests.cli.conftest import run
from tests.servers.proxy import proxied

# To the command all databases are the same.
pytestmark = pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """What the command calls the server with."""
    client = Client(Connection(url, None, "test"))
    yield client
    client.close()


def _lines(client: Client, lease: Lease, **wanted: Any) -> list[str]:
    return list(log_lines(client, lease.job_id, Wanted(**wanted)))


def _next(lines: Iterator[str], count: int) -> list[str]:
    return [next(lines) for _ in range(count)]


def test_following_begins_with_the_tail_and_repeats_nothing(site: Site, client: Client) -> None:
    lease = site.start()
    site.record(lease, line("one"), line("two"), line("three"))
    lines = log_lines(client, lease.job_id, Wanted(tail=2, is_following=True))

    assert _next(lines, 1) == ["two"]
    # It comes after the past was asked for, and before the stream begins.
    site.record(lease, line("four"))
    assert _next(lines, 2) == ["three", "four"]
    site.record(lease, line("five"))
    site.succeed(lease)
    assert list(lines) == ["five"]


def test_a_broken_connection_is_gone_on_with_and_no_line_comes_twice(site: Site, url: str) -> None:
    lease = site.start()
    site.record(lease, line("one"), line("two"))
    with proxied(("127.0.0.1", int(url.rpartition(":")[2]))) as proxy:
        client = Client(Connection(f"http://127.0.0.1:{proxy.port}", None, "test"))
        lines = log_lines(client, lease.job_id, Wanted(is_following=True))
        assert _next(lines, 2) == ["one", "two"]
        site.record(lease, line("three"))
        assert _next(lines, 1) == ["three"]

        proxy.go_away()
        site.record(lease, line("four"))
        site.succeed(lease)
        proxy.come_back()

        assert list(lines) == ["four"]
        client.close()


def test_a_line_is_a_line_whatever_unicode_takes_for_an_end(site: Site, client: Client) -> None:
    lease = site.start()
    odd = "one\x85still\u2028one\x1cline"
    site.record(lease, line(odd), line("two"))
    site.succeed(lease)

    assert _lines(client, lease) == [odd, "two"]
    assert _lines(client, lease, is_following=True) == [odd, "two"]


def test_parts_of_a_log(site: Site, client: Client) -> None:
    first = site.start()
    site.record(first, *(line(f"{number} of one") for number in range(1, 6)))
    site.release(first)
    second = site.claim()
    site.record(second, line("1 of two"), line("2 of two"))
    site.succeed(second)

    assert _lines(client, first, lines="2-3") == ["2 of one", "3 of one"]
    assert _lines(client, first, lines="5-") == ["5 of one", "1 of two", "2 of two"]
    assert _lines(client, first, lines="6") == ["1 of two"]
    assert _lines(client, first, attempt=2) == ["1 of two", "2 of two"]
    assert _lines(client, first, attempt=1, is_following=True, tail=1) == ["5 of one"]
    assert _lines(client, first, attempt=2, tail=1) == ["2 of two"]
    assert _lines(client, first, since="1h", grep="1 of") == ["1 of one", "1 of two"]
    assert _lines(client, first, since="2999-01-01") == []


def test_following_an_attempt_leaves_out_the_next_one(site: Site, client: Client) -> None:
    first = site.start()
    site.record(first, line("of one"))
    lines = log_lines(client, first.job_id, Wanted(attempt=1, is_following=True))

    assert _next(lines, 1) == ["of one"]
    site.record(first, line("more of one"))
    assert _next(lines, 1) == ["more of one"]
    site.release(first)
    second = site.claim()
    site.record(second, line("of two"))
    site.succeed(second)
    assert list(lines) == []


def test_lines_that_are_none_are_wrong_usage(site: Site, client: Client) -> None:
    lease = site.start()
    for lines in ("0-3", "a-b", "-5", "5-3-1"):
        with pytest.raises(UserError) as caught:
            _lines(client, lease, lines=lines)
        assert caught.value.code is Exit.USAGE


@pytest.mark.parametrize("more", [[], ["--follow"]])
def test_only_lines_with_a_text_are_printed(
    site: Site, url: str, tmp_path: Path, more: list[str]
) -> None:
    lease = site.start()
    site.record(lease, line("one"), line("WARN two"), line("three"), line("WARN four"))
    site.succeed(lease)

    def printed(*options: str) -> list[str]:
        done = run(tmp_path, "logs", lease.job_id, *options, *more, TUNEYARD_URL=url)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert printed("--grep", "WARN") == ["WARN two", "WARN four"]
    assert printed() == ["one", "WARN two", "three", "WARN four"]
