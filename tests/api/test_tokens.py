"""The token report before a job, which says what the trainer will say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.db import Database
from core.settings import Settings
from examples.tiny_model import make_tiny_model
from tests.api.conftest import Site, changed, jsonl, problem_of, serving

TOKENS = "/v1/fine_tuning/tokens"
CHAT = [
    {
        "messages": [
            {"role": "user", "content": f"How many are {n}?"},
            {"role": "assistant", "content": f"There are {n}."},
        ]
    }
    for n in range(20)
]


@pytest.fixture
def tiny(api_settings: Settings, database: Database, tmp_path: Path) -> Iterator[Site]:
    """A server with a model that has a real tokenizer."""
    make_tiny_model("llama", tmp_path / "real" / "tiny-llama")
    with serving(changed(api_settings, model_roots=(tmp_path / "real",)), database) as site:
        yield site


def ask(site: Site, rows: list[Any], **body: Any) -> Any:
    file_id = site.upload(jsonl(*rows))
    return site.client.post(
        TOKENS, json={"model": "local/tiny-llama", "training_file": file_id, **body}
    )


def test_a_report_counts_what_is_read_and_what_is_learned(tiny: Site) -> None:
    answer = ask(tiny, CHAT, training={"assistant_only_loss": True}).json()

    assert answer["rows"] == answer["rows_used"] == answer["sequences"] == 20
    assert answer["trained_on"] == "assistant"
    assert 0 < answer["trained_tokens"] < answer["tokens"]
    assert sum(bar["rows"] for bar in answer["histogram"]) == 20
    assert len(answer["samples"]) == 3
    learned = "".join(s["text"] for s in answer["samples"][0]["segments"] if s["trained"])
    assert "There are 0." in learned
    assert "How many" not in learned
    assert answer["sampled_rows"] is None


def test_a_short_length_cuts_and_packing_fills(tiny: Site) -> None:
    whole = ask(tiny, CHAT).json()
    cut = ask(tiny, CHAT, training={"max_length": 8}).json()
    packed = ask(tiny, CHAT, training={"packing": True, "max_length": 256}).json()

    assert cut["truncated_rows"] == 20
    assert cut["tokens"] == 20 * 8
    assert packed["sequences"] < 20
    assert packed["tokens"] == whole["tokens"]
    assert set(whole["padding"]) == {"unpacked", "packed"}


def test_a_row_that_cannot_be_used_is_named(tiny: Site) -> None:
    answer = ask(tiny, [{"text": "fine"}] * 3, training={"assistant_only_loss": True})

    assert problem_of(answer, 400)["param"] == "training.assistant_only_loss"


def test_a_model_without_a_tokenizer_is_told(tiny: Site, tmp_path: Path) -> None:
    (tmp_path / "real" / "tiny-llama" / "tokenizer.json").unlink()

    error = problem_of(ask(tiny, CHAT), 400)

    assert error["param"] == "model"
    assert "tokenizer.json" in error["message"]


@pytest.mark.parametrize(
    ("training", "param"),
    [
        ({"max_length": "x"}, "training.max_length"),
        ({"max_length": -3}, "training.max_length"),
        ({"max_length": 4096}, "training.max_length"),
        ({"packing": "yes"}, "training.packing"),
        ({"nope": 1}, "training.nope"),
    ],
)
def test_arguments_are_checked_as_those_of_a_job(
    tiny: Site, training: dict[str, Any], param: str
) -> None:
    assert problem_of(ask(tiny, CHAT, training=training), 400)["param"] == param


def test_rows_that_do_not_fit_the_request_are_the_file_s(tiny: Site) -> None:
    error = problem_of(ask(tiny, [{"text": "a"}], shape="messages"), 400)

    assert error["param"] == "training_file"


def test_a_template_may_not_run_for_ever(tiny: Site) -> None:
    endless = "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}{{ c }}"
    endless += "{% endfor %}{% endfor %}{% endfor %}"

    answer = ask(tiny, [{"text": "a"}], template=endless)

    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("tokenizer.json", '{"a":' * 5000 + "1" + "}" * 5000, "cannot be read"),
        ("tokenizer_config.json", "[1]", "cannot be read"),
        (
            "tokenizer.json",
            '{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}, "pre_tokenizer":'
            '{"type": "Split", "pattern": {"Regex": "(x+x+)+y|([^ ]*[a-z]*)*!"}, "behavior":'
            '"Isolated", "invert": false}}',
            "tokenizer fails",
        ),
    ],
)
def test_a_tokenizer_that_nothing_can_use_is_named(
    tiny: Site, tmp_path: Path, file: str, content: str, says: str
) -> None:
    (tmp_path / "real" / "tiny-llama" / file).write_text(content)

    error = problem_of(ask(tiny, [{"text": "x" * 60}]), 400)

    assert (error["code"], error["param"]) == ("invalid_model", "model")
    assert says in error["message"]
