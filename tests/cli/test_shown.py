"""What `show` says of a job that failed."""

from typing import Any

import pytest

from cli.diagnosis import diagnosis

SPLIT = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 16}
ADVICE = {"needed_bytes": 25e9, "limit_bytes": 24e9, "change": {"training": SPLIT}}


def failed(code: str, *, training: dict[str, Any] | None = None, **evidence: Any) -> dict[str, Any]:
    error = {"code": code, "message": "It went wrong.", "suggestion": "Do better."}
    attempt = {"number": 2, "error": error | {"evidence": evidence}}
    return {"error": error, "attempts": [attempt], "training": training or {}}


@pytest.mark.parametrize(
    ("job", "command"),
    [
        (failed("worker_lost"), "tuneyard retry faq"),
        (failed("invalid_model"), None),
        (
            failed("out_of_memory", training={"max_length": 512}),
            "tuneyard retry faq --max_length 256",
        ),
        (failed("out_of_memory", training={"max_length": 64}), None),
        (failed("out_of_memory", training={"max_length": 512}, depends_on_batch=False), None),
        (
            failed("out_of_memory", advice=ADVICE),
            "tuneyard retry faq --per_device_train_batch_size 1 --gradient_accumulation_steps 16",
        ),
        (
            failed("out_of_memory", advice=ADVICE | {"change": {"peft": {"r": 8}}}),
            "tuneyard jobs clone faq --lora-rank 8",
        ),
        (
            failed("non_finite_loss", training={"learning_rate": 2e-4}),
            "tuneyard retry faq --learning_rate 2e-05",
        ),
    ],
)
def test_a_failure_has_the_command_that_may_help(job: dict[str, Any], command: str | None) -> None:
    lines = list(diagnosis(job, "faq"))

    assert lines[:2] == ["  Why       It went wrong.", "  Try       Do better."]
    assert [line.strip() for line in lines if "tuneyard" in line] == ([command] if command else [])


def test_evidence_is_numbers_and_the_end_of_the_log() -> None:
    job = failed("out_of_memory", advice=ADVICE, step=7, log=["a", "b", "c", "\x1b[2Jd"])

    lines = list(diagnosis(job, "faq"))

    start = lines.index("  Evidence  needed 25.00 GB of 24.00 GB, at step 7")
    indent = " " * 12
    assert lines[start + 1 :] == [
        f"{indent}tuneyard logs faq --attempt 2 --tail 4",
        *(f"{indent}{text}" for text in ("b", "c", "\ufffd[2Jd")),
    ]


def test_a_job_that_has_not_failed_has_no_diagnosis() -> None:
    assert list(diagnosis({"error": None}, "faq")) == []
