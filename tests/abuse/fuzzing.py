"""Sends what schemathesis makes of openapi.json, good and broken, to a real server."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import response_schema_conformance

from tests.api.conftest import Site

AWAY = 503
"""The Hub of these servers is away, which is no error of theirs."""
ANSWER_SECONDS = 30


@dataclass
class Findings:
    """What was sent, and what was wrong with the answers."""

    cases: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    server_errors: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def make_ids(site: Site) -> dict[str, str]:
    """A job that has ended well, its checkpoint and a file, by the names of path parameters."""
    lease = site.start()
    site.publish(lease, 4, {"config.json": b"{}"})
    site.succeed(lease)
    return {
        "job_id": lease.job_id,
        "step": "4",
        "path": "config.json",
        "file_id": site.upload(),
        "kind": "models",
        "name": f"jobs/{lease.job_id}",
        "revision": "main",
    }


def fuzz(
    url: str, keys: tuple[str, str], ids: Mapping[str, str], *, examples: int, start: int = 0
) -> Findings:
    """Every operation, so many times for each key; every other time with ids that exist."""
    load_all_checks()
    findings = Findings()
    schema = schemathesis.openapi.from_url(
        f"{url}/openapi.json", headers={"authorization": f"Bearer {keys[0]}"}
    )
    with requests.Session() as session:
        for found in schema.get_all_operations():
            for number, key in enumerate(keys):
                asked = _Asked(url, key, ids, session, findings)
                _many(found.ok(), asked, examples, start + number)
    return findings


@dataclass
class _Asked:
    url: str
    key: str
    ids: Mapping[str, str]
    session: requests.Session
    findings: Findings
    turns: "count[int]" = field(default_factory=count)

    def send(self, case: Case) -> None:
        if next(self.turns) % 2:
            for name in case.path_parameters:
                case.path_parameters[name] = self.ids.get(name, case.path_parameters[name])
        response = case.call(
            base_url=self.url,
            session=self.session,
            headers={"authorization": f"Bearer {self.key}"},
            timeout=ANSWER_SECONDS,
        )
        findings, status = self.findings, response.status_code
        findings.cases += 1
        findings.statuses[status] = findings.statuses.get(status, 0) + 1
        what = f"{case.method} {case.formatted_path} {case.query} {case.body!r:.300}"
        if status >= 500 and status != AWAY:
            findings.server_errors.append(f"{status} {what} {response.text[:300]}")
        try:
            case.validate_response(response, checks=[response_schema_conformance])
        except FailureGroup as group:
            findings.violations += [f"{what} {str(error)[:600]}" for error in group.exceptions]


def _many(operation: Any, asked: _Asked, examples: int, start: int) -> None:
    good, broken = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @seed(start)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=good | broken)
    def run(case: Case) -> None:
        try:
            asked.send(case)
        except requests.exceptions.InvalidHeader:
            # No client can send it.
            return

    run()
