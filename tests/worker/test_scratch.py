"""Scratch folders: one for each live process, none for dead ones."""

import os
import subprocess
import sys

from worker.scratch import Scratch


def test_a_live_process_keeps_its_folder(tmp_path) -> None:
    first = Scratch(tmp_path)
    (first.folder / "attempt").mkdir()

    second = Scratch(tmp_path)

    assert (first.folder / "attempt").is_dir()
    assert first.folder != second.folder
    first.close()
    second.close()
    assert os.listdir(tmp_path) == []


def test_the_folder_of_a_dead_process_is_removed(tmp_path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from worker.scratch import Scratch;"
        "scratch = Scratch(Path(sys.argv[1])); (scratch.folder / 'attempt').mkdir();"
        "print(scratch.folder, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    dead = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert os.path.isdir(f"{dead.stdout.strip()}/attempt")

    Scratch(tmp_path).close()

    assert os.listdir(tmp_path) == []
