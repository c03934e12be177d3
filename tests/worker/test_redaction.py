"""What a child says is shown without secrets and without the folders of this machine."""

import json
import sys
from pathlib import Path

import pytest

from core.settings import Settings
from worker.redaction import Redaction

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f'File "{ROOT}/worker/child/main.py", line 3', 'File "worker/child/main.py", line 3'),
        (f"{sys.prefix}/bin/python3 fails", "python3 fails"),
        (f'File "{json.__file__}"', 'File "json/__init__.py"'),
        ("No such file: '{home}/scratch/7-ab/ftjob-1/x'", "No such file: 'x'"),
        ("file://{home}/storage/files/a", "file://files/a"),
        ("config of {models}/tiny/config.json", "config of tiny/config.json"),
        ("wrote to {home}.", "wrote to .."),
        ("{home}-other/x a{home}/x", "{home}-other/x a{home}/x"),
        ("the token hf_secret of https://a.example/b", "the token *** of https://a.example/b"),
        ("loss 1/3", "loss 1/3"),
    ],
)
def test_what_is_left_of_a_line(tmp_path: Path, said: str, shown: str) -> None:
    home, models = tmp_path / "home", tmp_path / "models"
    models.mkdir()
    settings = Settings(TUNEYARD_HOME=home, MODEL_ROOTS=(models,), HF_TOKEN="hf_secret")
    redaction = Redaction.of(settings, home / "scratch" / "7-ab" / "ftjob-1")

    line = redaction.apply(said.format(home=home, models=models))

    assert line == shown.format(home=home, models=models)
