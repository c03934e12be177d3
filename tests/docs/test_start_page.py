"""Every command of the first page runs, in its order, as it stands there."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.tiny_model import make_tiny_model
from tests.cli.conftest import Up, _up, environment_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "start.md"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.training


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Up]:
    """A running `up` without a key, and a tiny model."""
    for up in _up(tmp_path):
        make_tiny_model("llama", up.home / "models" / "tiny-llama")
        up.start()
        yield up


def test_every_command_of_the_first_page_runs(service: Up) -> None:
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) >= 7

    script = "set -euo pipefail\n" + "\n".join(_as_shell(*block) for block in blocks)

    environment = environment_of(
        service.cwd, TUNEYARD_URL=service.url, MODEL="local/tiny-llama", HF_HUB_OFFLINE="0"
    )
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=service.cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (service.cwd / "sums-model" / "adapter_config.json").is_file()
    assert "What is 20 plus one?" in done.stdout


def _as_shell(language: str, text: str) -> str:
    return text if language == "bash" else f"python -c {shlex.quote(text)}"
