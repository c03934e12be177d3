"""Every command of the README and the guides runs, in its order, as it stands there."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest

from cli.embedded.broker import free_port
from examples.tiny_model import make_tiny_model
from tests.cli.conftest import Up, _up, environment_of, until
from tests.docs.pages import (
    NOT_RUN,
    PAGES,
    ROOT,
    blocks,
    look_up,
    parse,
    script,
    tuneyard_calls,
)

MODEL = "smollm2-135m-instruct"
"""The name that pages use; here it is a tiny model."""
LAST = ("backup.md", "team.md")
"""These look at the whole service, or lock it."""
RUN = sorted(
    (page for page in PAGES if any(block.is_run for block in blocks(page))),
    key=lambda page: (page.name in LAST, page.name),
)
CHAT = (
    '{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}\n'
)


@dataclass
class Reader:
    """Somebody who has a service, and types what pages say."""

    up: Up
    other_port: int = field(default_factory=free_port)

    def read(self, page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run all blocks of a page in a folder of its own."""
        folder.mkdir()
        (folder / "train.jsonl").write_text(CHAT * 8)
        text = script(page).replace("127.0.0.1:8080", f"127.0.0.1:{self.up.port}")
        text = re.sub(r"127\.0\.0\.1(:|\", )9000", rf"127.0.0.1\g<1>{self.other_port}", text)
        environment = environment_of(
            self.up.cwd,
            TUNEYARD_URL=self.up.url,
            TUNEYARD_HOME=str(self.up.home),
            PYTHONPATH=str(ROOT),
        )
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        return subprocess.run(
            ["bash", "-c", text],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """One running `up` for all pages, with a tiny model under the name that pages use."""
    for up in _up(tmp_path_factory.mktemp("pages")):
        make_tiny_model("llama", up.home / "models" / MODEL)
        up.start(EGRESS_ALLOW="127.0.0.0/8", PYTHONPATH=str(ROOT))
        until(partial(_has_worker, up.url))
        yield Reader(up)


def _has_worker(url: str) -> bool:
    return bool(httpx.get(f"{url}/v1/workers").json()["data"])


@pytest.mark.training
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_every_command_of_the_page_runs(reader: Reader, page: Path) -> None:
    done = reader.read(page, reader.up.cwd / page.stem)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        assert block.language, f"a block without a language:\n{block.text}"
        assert not block.word or block.word in NOT_RUN, block.word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_not_run_exist(page: Path) -> None:
    """Each `tuneyard` parses with its options, each target of `make` is in the Makefile."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for block in blocks(page):
        for line in block.commands:
            for arguments in () if block.is_run else tuneyard_calls(line):
                parse(arguments)
            for target in re.findall(r"^make ([a-z]+)", line):
                assert target in targets
            for profile in re.findall(r"docker compose .*--profile (\w+)", line):
                assert f"profiles: [{profile}]" in (ROOT / "docker-compose.yml").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for line in set(re.findall(r"`(tuneyard [^`]+)`", text)):
        for arguments in tuneyard_calls(line):
            look_up(arguments)
