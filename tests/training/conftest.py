"""Tiny models and data, and a forkserver that all tests of a session share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.sandbox import landlock_version
from examples.tiny_model import make_tiny_model, write_chat, write_pydoc_text
from worker.forkserver import child_environment, warm

OrderFactory = Callable[..., dict[str, Any]]

TRAINING = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "max_steps": 6,
    "logging_steps": 1,
    "save_steps": 3,
    "max_length": 64,
    "learning_rate": 1e-3,
}


@pytest.fixture(scope="session")
def warm_forkserver(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The forkserver that all tests of this session share."""
    warm(child_environment(scratch=tmp_path_factory.mktemp("children")))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in each of `opt`, which has dropout, and `llama`."""
    folder = tmp_path_factory.mktemp("models")
    for family in ("opt", "llama"):
        make_tiny_model(family, folder / family)
    return folder


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 rows of text, of one to 300 tokens."""
    return write_pydoc_text(tmp_path_factory.mktemp("text") / "text.jsonl", 200)


@pytest.fixture(scope="session")
def eval_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten rows of text."""
    return write_pydoc_text(tmp_path_factory.mktemp("eval") / "eval.jsonl", 10)


@pytest.fixture(scope="session")
def chat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 rows of messages."""
    return write_chat(tmp_path_factory.mktemp("chat") / "chat.jsonl", 20)


@pytest.fixture
def make_order(
    warm_forkserver: None, models: Path, text_file: Path, tmp_path: Path
) -> OrderFactory:
    """Makes orders: a model family, then fields of the order that differ from the defaults."""
    scratches: Iterator[Path] = (tmp_path / f"attempt-{number}" for number in range(1, 100))

    def make(
        family: str = "llama", *, training: dict[str, Any] | None = None, **fields: Any
    ) -> dict[str, Any]:
        scratch = next(scratches)
        scratch.mkdir()
        order = {
            "job_id": "ftjob-test",
            "attempt": 1,
            "seed": 7,
            "model_dir": str(models / family),
            "public_model": f"tests/{family}",
            "train": {"kind": "jsonl", "path": str(text_file)},
            "training": TRAINING | (training or {}),
            "scratch": str(scratch),
            "threads": 2,
            "device": "cpu",
            "is_sandboxed": landlock_version() > 0,
        }
        return order | fields

    return make
