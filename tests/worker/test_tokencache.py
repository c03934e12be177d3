"""Tokens that were made once are not made again; what they were made of is their name."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.models import Job
from tests.worker.conftest import Bench
from worker.tokencache import ABOUT, TokenCache, tokens_key


def make_tokens(folder: Path, *, size: int = 100) -> Path:
    folder.mkdir(parents=True)
    (folder / "tokens.arrow").write_bytes(b"t" * size)
    (folder / ABOUT).write_text("{}")
    return folder


def make_cache(folder: Path, *, limit_bytes: int = 10_000) -> TokenCache:
    return TokenCache(folder / "cache", limit_bytes=limit_bytes)


def has(cache: TokenCache, key: str, target: Path) -> bool:
    cache.lend(key, target)
    return (target / key / ABOUT).is_file()


def test_what_was_kept_outlives_the_attempt_that_made_it(tmp_path: Path) -> None:
    cache, made = make_cache(tmp_path), make_tokens(tmp_path / "attempt" / "key")

    cache.keep(made)
    shutil.rmtree(tmp_path / "attempt")

    assert has(cache, "key", tmp_path / "next")
    assert (tmp_path / "next" / "key" / "tokens.arrow").read_bytes() == b"t" * 100
    assert not has(cache, "other", tmp_path / "next")


def test_tokens_that_are_not_whole_are_not_kept(tmp_path: Path) -> None:
    cache, made = make_cache(tmp_path), make_tokens(tmp_path / "key")
    (made / ABOUT).unlink()

    cache.keep(made)

    assert not has(cache, "key", tmp_path / "next")


def test_those_that_were_not_used_for_longest_go_first(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, limit_bytes=250)
    for age, name in ((300, "a"), (200, "b")):
        cache.keep(make_tokens(tmp_path / name))
        os.utime(tmp_path / "cache" / name, (age, age))
    cache.lend("a", tmp_path / "before")

    cache.keep(make_tokens(tmp_path / "c"))

    assert [has(cache, name, tmp_path / "next") for name in "abc"] == [True, False, True]


SOURCE = {"kind": "jsonl", "path": "/data/file", "compression": None}


def make_job(**spec: Any) -> Job:
    training = spec.pop("training", {})
    return Job(project_id=spec.pop("project_id", "p"), spec=spec, training=training)


def write_tokenizer(folder: Path, tokenizer: str = "{}") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer)
    return folder


def key_of(job: Job, model: Path, *, digest: str = "d") -> str:
    return tokens_key(job, SOURCE, model, digest=digest)


@pytest.mark.parametrize(
    "changed",
    [
        make_job(project_id="other"),
        make_job(template="{{ text }}"),
        make_job(shape="text"),
        make_job(chat_template="{{ messages }}"),
        make_job(training={"completion_only_loss": False}),
        make_job(training={"assistant_only_loss": True}),
        make_job(training={"dataset_text_field": "body"}),
        make_job(training={"eos_token": "</s>"}),
    ],
)
def test_what_changes_tokens_changes_their_name(tmp_path: Path, changed: Job) -> None:
    model = write_tokenizer(tmp_path / "m")

    assert key_of(changed, model) != key_of(make_job(), model)


def test_other_rows_and_other_tokenizers_have_other_names(tmp_path: Path) -> None:
    model = write_tokenizer(tmp_path / "m")
    before = key_of(make_job(), model)

    assert key_of(make_job(), model, digest="e") != before
    assert key_of(make_job(), write_tokenizer(model, '{"v": 2}')) != before


def test_weights_and_lengths_change_no_name(tmp_path: Path) -> None:
    model = write_tokenizer(tmp_path / "m")
    before = key_of(make_job(), model)
    (model / "model.safetensors").write_bytes(b"weights")

    job = make_job(training={"max_length": 64, "packing": True, "learning_rate": 1e-5})

    assert key_of(job, model) == before


def run(bench: Bench) -> None:
    runtime = bench.runtime()
    runtime.work()
    runtime.join()


@pytest.mark.training
def test_the_next_job_reads_the_tokens_of_the_one_before(bench: Bench) -> None:
    """The second tokenizer was changed in place, and its tokens show that they were not made."""
    file = bench.upload()
    first = bench.submit(training_file=file)
    run(bench)
    kept = list((bench.settings.scratch_folder / "cache" / "tokens").iterdir())
    assert len(kept) == 1
    about = json.loads((kept[0] / ABOUT).read_bytes())
    about["samples"] = [{"place": "Line 1", "tokens": 1, "segments": [], "is_cut": False}]
    (kept[0] / ABOUT).write_text(json.dumps(about))

    second = bench.submit(training_file=file, validation_file=file)
    run(bench)
    assert bench.job(second.id).error is None
    assert bench.losses(second.id) == bench.losses(first.id)
    report = bench.job(second.id).data_report
    assert report is not None
    assert report["train"]["samples"] == about["samples"]
    assert report["eval"]["samples"] == about["samples"]
