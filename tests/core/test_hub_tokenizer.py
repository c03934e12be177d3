"""Tokenizers of the Hub are lent while others make room among them."""

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.hub_client import HubClient
from core.hub_tokenizer import KEPT_FOLDERS, HubTokenizers
from tests.servers.hub import running_hub

NAME = "acme/tiny"
LOCKS = Path("/proc/locks")


class Crowded(HubTokenizers):
    """Others need the room as soon as a tokenizer was found, as often as `crowds` says."""

    crowds = 0
    finds = 0

    def _newest(self, name: str) -> Path:
        folder = super()._newest(name)
        self.finds += 1
        if self.finds <= self.crowds:
            crowd(folder)
            self._make_room()
            assert not folder.exists()
        return folder


def crowd(folder: Path) -> None:
    """As many others as are kept were used after this one."""
    os.utime(folder, (0, 0))
    for number in range(KEPT_FOLDERS):
        (folder.parent / f"other-{number}").mkdir(exist_ok=True)


@pytest.fixture
def tokenizers(tmp_path: Path) -> Iterator[Crowded]:
    repository = tmp_path / "hub" / "models" / NAME
    repository.mkdir(parents=True)
    (repository / "tokenizer.json").write_text("{}")
    with running_hub(tmp_path / "hub") as (_, url):
        yield Crowded(tmp_path / "kept", HubClient(url))


def test_a_tokenizer_that_goes_before_it_is_locked_is_fetched_again(tokenizers: Crowded) -> None:
    tokenizers.crowds = 2

    with tokenizers.lent(NAME) as folder:
        assert (folder / "tokenizer.json").is_file()

    assert tokenizers.finds == 3


@pytest.mark.skipif(not LOCKS.exists(), reason="only Linux tells who waits for a lock")
def test_a_tokenizer_that_goes_while_its_lock_is_waited_for_is_fetched_again(
    tokenizers: Crowded,
) -> None:
    """Whoever removes a folder holds its lock, and the lender has opened it already."""
    with tokenizers.lent(NAME) as folder:
        pass
    remover = os.open(folder, os.O_RDONLY)
    fcntl.flock(remover, fcntl.LOCK_EX)
    found: list[bool] = []

    def lend() -> None:
        with tokenizers.lent(NAME) as lent:
            found.append((lent / "tokenizer.json").is_file())

    thread = threading.Thread(target=lend)
    thread.start()
    inode = f":{folder.stat().st_ino} "
    pause = threading.Event()
    while not any("->" in row and inode in row for row in LOCKS.read_text().splitlines()):
        pause.wait(0.01)
    shutil.rmtree(folder)
    os.close(remover)
    thread.join()

    assert found == [True]


def test_a_tokenizer_that_is_lent_stays(tokenizers: Crowded) -> None:
    with tokenizers.lent(NAME) as folder:
        crowd(folder)

        tokenizers._make_room()

        assert (folder / "tokenizer.json").is_file()
