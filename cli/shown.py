"""Jobs as people read them: a row of a list, a page of one job, and several beside each other."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from cli.diagnosis import diagnosis
from cli.output import MARKS, fitted, plain, table, wrapped
from cli.words import in_words, size_in_words

JOBS_HEAD = ("JOB", "NAME", "STATUS", "DONE", "LOSS", "LEFT", "MODEL")
SHORT_ID = 8
TEXT_AT = 12
"""Column of what stands beside a heading."""
MAX_NAME = 20
PLANNED = (
    ("Memory", "peak_memory_bytes", size_in_words),
    ("A step", "seconds_per_step", lambda seconds: f"{seconds:.3g} s"),
    ("Disk", "disk_bytes", size_in_words),
)
COMPARED = ("model", "training_file", "validation_file", "dataset", "template", "seed")
WITH_NAMES = ("training", "peft", "quantization")


def status_of(job: dict[str, Any]) -> str:
    """A job's status with its mark."""
    return f"{MARKS.get(job['status'], '○')} {job['status']}"


def called(job: dict[str, Any]) -> str:
    """What to call a job on a command line: its own name, where it has one that needs no quotes."""
    name = job["user_provided_suffix"]
    is_easy = name and all(character.isalnum() or character in "-_." for character in name)
    return str(name) if is_easy and name.isascii() else str(job["id"])


def job_row(job: dict[str, Any]) -> list[str]:
    """The columns of a job in a list for programs."""
    return [job["id"], status_of(job), _done(job), job["model"]]


def job_cells(job: dict[str, Any], loss: float | None) -> list[str]:
    """The columns of a job in a list for people."""
    left = job["estimated_finish"]
    return [
        job["id"].removeprefix("ftjob-")[:SHORT_ID],
        fitted(plain(job["user_provided_suffix"] or "-"), MAX_NAME),
        status_of(job),
        _done(job),
        f"{loss:.4f}" if loss is not None else "-",
        in_words(max(0, left - time.time())) if left else "-",
        job["model"],
    ]


def job_page(
    job: dict[str, Any],
    checkpoints: Sequence[dict[str, Any]],
    metrics: dict[str, list[Any]],
    *,
    server: str,
    width: int,
) -> str:
    """All that matters of a job, the most urgent first."""
    parts = [_title(job), *diagnosis(job, called(job)), *_read(job, server), *_waiting(job)]
    parts += _facts(job, metrics)
    parts += ["", *_beside(job)] if job["plan"] or job["measured"] else []
    if checkpoints:
        parts += ["", *_checkpoints(job, checkpoints)]
    return "\n".join(wrapped(part, width, indent=TEXT_AT) for part in parts)


def compared(jobs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """The settings in which the jobs differ, with what each of them has."""
    settings = [_settings(job) for job in jobs]
    names = dict.fromkeys(name for each in settings for name in each)
    values = {name: [each.get(name) for each in settings] for name in names}
    return {name: all_ for name, all_ in values.items() if any(one != all_[0] for one in all_)}


def results_of(job: dict[str, Any], metrics: dict[str, list[Any]]) -> dict[str, Any]:
    """How a job has come out so far."""
    evaluations = _known(metrics, "valid_loss")
    return {
        "status": job["status"],
        "step": job["progress"]["step"],
        "train_loss": next(iter(_known(metrics, "train_loss")[-1:]), None),
        "valid_loss": next(iter(evaluations[-1:]), None),
        "best_valid_loss": min(evaluations, default=None),
        "seconds": seconds_of(job),
    }


def seconds_of(job: dict[str, Any]) -> int | None:
    """How long a job has been trained, or has taken."""
    if job["started_at"] is None:
        return None
    return int((job["finished_at"] or time.time()) - job["started_at"])


def _settings(job: dict[str, Any]) -> dict[str, Any]:
    found = {name: job[name] for name in COMPARED}
    for group in WITH_NAMES:
        found |= {f"{group}.{name}": value for name, value in (job[group] or {}).items()}
    split = ("per_device_train_batch_size", "gradient_accumulation_steps")
    # What was left open became what the plan chose.
    return {f"training.{name}": (job["plan"] or {}).get(name) for name in split} | found


def _known(metrics: dict[str, list[Any]], name: str) -> list[Any]:
    return [value for value in metrics.get(name, []) if value is not None]


def _title(job: dict[str, Any]) -> str:
    names = [job["user_provided_suffix"], job["id"]]
    code = (job["error"] or {}).get("code")
    return "  ".join(plain(part) for part in [status_of(job), *names, code] if part)


def _read(job: dict[str, Any], server: str) -> Iterator[str]:
    if job["error"]:
        yield f"  Read      {server}/docs/guide/errors#{job['error']['code']}"


def _waiting(job: dict[str, Any]) -> Iterator[str]:
    if job["queue"]:
        yield f"  {plain(job['queue']['reason'])}"
    if job["pause_reason"]:
        yield f"  {plain(job['pause_reason'])}"
    for request in ("cancel", "pause"):
        is_open = job["status"] == "running" and job[f"{request}_requested_at"]
        if is_open:
            yield f"  {request} was asked for; it is done at the next step"


def _facts(job: dict[str, Any], metrics: dict[str, list[Any]]) -> Iterator[str]:
    progress, attempts, taken = job["progress"], job["attempts"] or [], seconds_of(job)
    model = [job["model"]]
    if job["peft"]:
        model.append(f"LoRA r{job['peft'].get('r', 8)}")
    if job["resolved"]:
        trained, every = (
            job["resolved"][f"{which}_parameters"] for which in ("trainable", "total")
        )
        model.append(f"{trained:,} of {every:,} parameters trained")
    yield f"  Model     {plain(' · '.join(model))}"
    steps = f"step {progress['step']:,}"
    steps += f" of {progress['total_steps']:,} ({_done(job)})" if progress["total_steps"] else ""
    if attempts:
        last = attempts[-1]
        steps += f" · attempt {last['number']} on {plain(last['worker'])}"
    times = [in_words(taken)] if taken is not None else []
    if job["max_seconds"]:
        times.append(f"at most {in_words(job['max_seconds'])} an attempt")
    yield f"  Progress  {' · '.join([steps, *times])}"
    losses = [
        f"{word} {_known(metrics, name)[-1]:.4f}"
        for word, name in (("training", "train_loss"), ("evaluation", "valid_loss"))
        if _known(metrics, name)
    ]
    if losses:
        yield f"  Loss      {' · '.join(losses)}"
    data = (job["data_report"] or {}).get("train")
    if data:
        yield (
            f"  Data      {data['rows']:,} rows · {data['truncated_rows']:,} cut · "
            f"{data['nothing_to_learn_rows']:,} with nothing to learn · "
            f"{data['trained_tokens']:,} tokens learned"
        )


def _beside(job: dict[str, Any]) -> list[str]:
    rows = [["", "PLANNED", "MEASURED"]]
    for word, name, say in PLANNED:
        both = [(job[which] or {}).get(name) for which in ("plan", "measured")]
        rows.append([word, *(say(value) if value is not None else "-" for value in both)])
    total, taken = (job["plan"] or {}).get("total_seconds"), seconds_of(job)
    took = in_words(taken) if taken is not None and job["finished_at"] else "-"
    rows.append(["Time", in_words(total) if total is not None else "-", took])
    return [f"  {line}" for line in table(rows, width=200).splitlines()]


def _checkpoints(job: dict[str, Any], checkpoints: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "  Checkpoints"
    for one in checkpoints:
        losses = [
            f"{word} {one['metrics'][name]:.4f}"
            for word, name in (("loss", "train_loss"), ("eval", "valid_loss"))
            if one["metrics"].get(name) is not None
        ]
        state = "damaged" if one["is_corrupt"] else "verified"
        size = size_in_words(one["size_bytes"])
        yield f"    step {one['step_number']:,}  {'  '.join([size, state, *losses])}"
    yield f"  Take it home: tuneyard pull {called(job)}"


def _done(job: dict[str, Any]) -> str:
    fraction = job["progress"]["fraction"]
    return f"{fraction:.0%}" if fraction is not None else "-"
