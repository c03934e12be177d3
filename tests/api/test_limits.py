"""Each key has so many requests a minute, and is told how many are left."""

from collections.abc import Iterator

import pytest

from app.limits import MAX_KEYS, Buckets
from core.db import Database
from core.settings import Settings
from tests.api.conftest import LOCAL, Site, changed, problem_of, serving


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def limited(api_settings: Settings, database: Database) -> Iterator[Site]:
    """A server that takes three requests a minute."""
    with serving(changed(api_settings, rate_limit_per_minute=3), database) as site:
        yield site


def test_what_is_left_is_told_with_every_answer(limited: Site) -> None:
    left = [
        limited.client.get(path).headers["x-ratelimit-remaining-requests"]
        for path in ("/v1/files", "/v1/nothing", "/v1/models")
    ]

    assert left == ["2", "1", "0"]


def test_too_many_requests_are_told_when_to_come_again(limited: Site) -> None:
    responses = [limited.client.get("/v1/files") for _ in range(4)]

    assert [response.status_code for response in responses] == [200, 200, 200, 429]
    error = problem_of(responses[3], 429)
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    headers = responses[3].headers
    assert headers["retry-after"] == "20"
    assert 19_000 < int(headers["retry-after-ms"]) <= 20_000
    assert headers["x-ratelimit-limit-requests"] == "3"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"].endswith("ms")


def test_the_health_check_has_no_limit(limited: Site) -> None:
    codes = {limited.client.get(f"{LOCAL}/healthz").status_code for _ in range(10)}

    assert codes == {200}


def test_no_limit_is_a_setting(api_settings: Settings, database: Database) -> None:
    with serving(changed(api_settings, rate_limit_per_minute=0), database) as site:
        assert "x-ratelimit-limit-requests" not in site.client.get("/v1/files").headers


def test_a_bucket_fills_up_again_within_a_minute() -> None:
    clock = Clock()
    buckets = Buckets(60, clock)

    for _ in range(60):
        assert buckets.take("a").is_allowed
    refused = buckets.take("a")
    assert (refused.is_allowed, refused.next_in_seconds) == (False, 1.0)
    clock.now += 1
    assert buckets.take("a").is_allowed
    assert not buckets.take("a").is_allowed
    clock.now += 3600
    assert buckets.take("a").remaining == 59


def test_one_key_takes_nothing_from_another() -> None:
    buckets = Buckets(1, Clock())

    assert [buckets.take(key).is_allowed for key in ("a", "b", "a")] == [True, True, False]


def test_buckets_do_not_grow_without_end() -> None:
    buckets = Buckets(1, Clock())

    for number in range(MAX_KEYS + 5):
        buckets.take(str(number))

    assert len(buckets._levels) == MAX_KEYS
