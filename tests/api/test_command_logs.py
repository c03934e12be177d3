"""What the command prints of a job's log, from a real server."""

from pathlib import Path

import pytest

from tests.api.conftest import Site, line
from tests.cli.conftest import run


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
