"""No route of the API is broken by what it is sent, and every refusal is a whole envelope."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from httpx import Response

from app.main import create_app
from core.settings import Settings
from tests.api.conftest import NO_JOB, Site, problem_of

BODIES: list[bytes] = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"{",
    b"\xff\xfe",
    b'{"a": NaN}',
    b'{"part_ids": [null], "project_ids": [{}], "url": 5, "event_type": []}',
    b'{"model": "\\ud800"}',
    b'{"name": "a\\u0000b"}',
    b'{"bytes": 99999999999999999999999999, "filename": "a"}',
    b'{"a":' * 50 + b"1" + b"}" * 50,
]
IDS = [
    NO_JOB,
    "x" * 300,
    "%2e%2e%2fetc",
    "%F0%9F%92%A9",
    "%ff",
    "-1",
    "9" * 30,
]
QUERIES = ["", "?limit=0", "?limit=99999999999999999999", "?after=nothing", "?order=sideways"]


def _routes(settings: Settings) -> Iterator[tuple[str, str]]:
    for path, methods in create_app(settings).openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path


def _filled(path: str, value: str) -> str:
    return re.sub(r"\{[^}]*\}", value, path.replace("{kind}", "models"))


def _check(response: Response, *what: Any) -> None:
    assert response.status_code < 500, (*what, response.text)
    assert response.headers["x-request-id"], what
    is_page = response.headers.get("content-type", "").startswith("text/html")
    if response.status_code >= 400 and response.request.method != "HEAD" and not is_page:
        problem_of(response, response.status_code)


def test_no_id_breaks_a_route(site: Site, api_settings: Settings) -> None:
    for method, path in _routes(api_settings):
        for value in IDS if "{" in path else [""]:
            url = _filled(path, value)
            _check(site.client.request(method, url), method, url)


def test_no_query_breaks_a_list(site: Site, api_settings: Settings) -> None:
    for method, path in _routes(api_settings):
        if method == "GET":
            for query in QUERIES:
                url = _filled(path, NO_JOB) + query
                _check(site.client.get(url), url)


@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/form-data; boundary=x", ""]
)
def test_no_body_breaks_a_route(site: Site, api_settings: Settings, content_type: str) -> None:
    for method, path in _routes(api_settings):
        if method in ("POST", "DELETE"):
            for body in BODIES:
                url = _filled(path, NO_JOB)
                headers = {"content-type": content_type}
                response = site.client.request(method, url, content=body, headers=headers)
                _check(response, method, url, body)


def test_no_method_breaks_a_path(site: Site, api_settings: Settings) -> None:
    for path in {path for _, path in _routes(api_settings)}:
        for method in ("PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
            response = site.client.request(method, _filled(path, "x"))
            _check(response, method, path)
            if response.status_code == 405:
                assert response.headers["allow"], (method, path)
