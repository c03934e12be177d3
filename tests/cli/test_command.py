"""The command against a running service: what it prints where, and how it exits."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli.errors import Exit
from tests.cli.conftest import KEY, Up, until

pytestmark = [pytest.mark.training, pytest.mark.process]

SETTINGS = {"max_steps": 6, "save_steps": 3, "logging_steps": 1, "max_length": 64}
SUBMIT = ("submit", "local/tiny-llama", "--file", "text.jsonl")


@pytest.fixture(scope="module")
def trained(service: Up) -> str:
    """The id of a job that was submitted, watched and has succeeded."""
    done = tuneyard(service, *SUBMIT, *sets(), "--lora-r", "4", "--watch")

    assert done.returncode == 0, done.stderr
    assert "6/6" in done.stderr or "step 6" in done.stderr.lower()
    job_id = str(done.stdout.strip())
    assert job_id.startswith("ftjob-")
    return job_id


def tuneyard(service: Up, *arguments: str) -> Any:
    return service.run(*arguments, TUNEYARD_API_KEY=KEY)


def sets(**more: Any) -> list[str]:
    return [f"--set={name}={value}" for name, value in (SETTINGS | more).items()]


def shown(service: Up, job: str) -> Any:
    return json.loads(tuneyard(service, "show", job, "--json").stdout)


def test_show_finds_a_job_by_id_prefix_and_last(service: Up, trained: str) -> None:
    prefix = trained.removeprefix("ftjob-")[:10]

    assert shown(service, trained)["peft"]["r"] == 4
    assert shown(service, prefix)["id"] == trained
    assert shown(service, "@last")["object"] == "fine_tuning.job"


def test_plan_prints_the_options_and_a_worker_that_has_room(service: Up) -> None:
    arguments = ("plan", "local/tiny-llama", "--file", "text.jsonl", *sets())
    done = tuneyard(service, *arguments, "--effective-batch", "4")
    again = tuneyard(service, *arguments, "--json")

    assert (done.returncode, again.returncode) == (0, 0), done.stderr + again.stderr
    assert "4 x 1" in done.stdout
    assert ": fits, needs" in done.stdout
    assert done.stdout.count("recommended") == 1
    assert json.loads(again.stdout)["steps"] == 6


def test_a_finished_job_tells_what_it_has_taken_beside_its_plan(service: Up, trained: str) -> None:
    job = shown(service, trained)

    assert job["measured"]["seconds_per_step"] > 0
    planned = job["plan"]["peak_memory_bytes"]
    assert abs(planned / job["measured"]["peak_memory_bytes"] - 1) < 0.3


def test_list_prints_columns_with_tabs_or_the_objects(service: Up, trained: str) -> None:
    rows = tuneyard(service, "list").stdout.splitlines()
    objects = json.loads(tuneyard(service, "list", "--json").stdout)

    assert [trained, "\u2713 succeeded", "100%", "local/tiny-llama"] in [
        row.split("\t") for row in rows
    ]
    assert trained in [job["id"] for job in objects]


def test_watch_of_a_finished_job_tells_all_its_events(service: Up, trained: str) -> None:
    done = tuneyard(service, "watch", trained, "--json")

    events = [json.loads(line) for line in done.stdout.splitlines()]
    steps = [event["data"]["step"] for event in events if event["type"] == "metrics"]
    assert done.returncode == 0
    assert events[-1]["data"]["status"] == "succeeded"
    assert set(steps) == set(range(1, 7))


def test_logs_print_text_and_end(service: Up, trained: str) -> None:
    calm = tuneyard(service, "logs", trained)
    following = tuneyard(service, "logs", trained, "--follow")

    assert calm.returncode == following.returncode == 0
    assert calm.stdout == following.stdout


@pytest.mark.parametrize("name", ["", "no-such-job"])
def test_a_name_that_means_no_job_touches_none(service: Up, trained: str, name: str) -> None:
    """An empty variable in a script must not hit the only job that there is."""
    done = tuneyard(service, "jobs", "delete", name)

    assert done.returncode == Exit.NOT_FOUND
    assert shown(service, trained)["status"] == "succeeded"


def test_a_name_of_several_jobs_is_answered_with_their_ids(service: Up) -> None:
    tuneyard(service, *SUBMIT, *sets(), "--watch")

    done = tuneyard(service, "show", "ftjob-")

    assert done.returncode == Exit.NOT_FOUND
    assert done.stderr.splitlines()[-1].startswith("ftjob-")


def test_lists_print_ids_alone_for_other_commands(service: Up, trained: str) -> None:
    jobs = tuneyard(service, "list", "-q", "--status", "succeeded").stdout.splitlines()
    failed = tuneyard(service, "list", "-q", "--status", "paused").stdout.splitlines()
    models = tuneyard(service, "models", "list", "-q").stdout.splitlines()

    assert trained in jobs
    assert not failed
    assert "local/tiny-llama" in models


def test_a_clone_differs_in_what_was_said(service: Up, trained: str) -> None:
    made = tuneyard(service, "jobs", "clone", trained, "--name", "twin", "--seed", "7", "--watch")
    assert made.returncode == 0, made.stderr

    compared = json.loads(tuneyard(service, "jobs", "compare", trained, "twin", "--json").stdout)

    assert compared["differences"] == {"seed": [42, 7]}
    one, two = compared["results"]
    assert one["step"] == two["step"] == 6
    assert one["train_loss"] != two["train_loss"]
    assert "✓ Succeeded in" in made.stderr
    assert "tuneyard pull twin" in made.stderr


def test_a_dry_run_prints_the_body_and_leaves_nothing(service: Up) -> None:
    before = tuneyard(service, "files", "list", "-q").stdout

    done = tuneyard(service, *SUBMIT, "--lora-rank", "4", "--max_length", "64", "--dry-run")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "model": "local/tiny-llama",
        "training_file": "text.jsonl",
        "training": {"max_length": 64},
        "peft": {"r": 4, "target_modules": "all-linear"},
    }
    assert ": fits, needs" in done.stderr
    assert tuneyard(service, "files", "list", "-q").stdout == before


def test_a_plan_that_fits_nowhere_exits_with_12(service: Up) -> None:
    done = tuneyard(service, "plan", *SUBMIT[1:], "--memory", "300MB")

    assert done.returncode == Exit.DATA_REFUSED
    assert "recommended" in done.stdout
    assert done.stderr.splitlines()[-2] == "Error: This fits on no worker."


def test_a_drained_worker_leaves_jobs_in_the_queue(service: Up) -> None:
    worker = tuneyard(service, "workers", "list", "-q").stdout.strip()
    assert tuneyard(service, "workers", "drain", worker).returncode == 0

    made = tuneyard(service, *SUBMIT, *sets(), "--name", "later").stdout.strip()
    waiting = tuneyard(service, "show", "later").stdout
    queued = tuneyard(service, "list", "-q", "--status", "queued").stdout.split()
    drained = tuneyard(service, "workers", "show", worker).stdout
    tuneyard(service, "workers", "undrain", worker)

    assert f"`tuneyard workers undrain {worker}`" in waiting
    assert queued == [made]
    assert "state\tdrained" in drained
    assert tuneyard(service, "wait", made).returncode == 0


def test_login_keeps_a_key_that_is_good(service: Up, tmp_path: Path) -> None:
    own = {"XDG_CONFIG_HOME": str(tmp_path), "TUNEYARD_URL": ""}

    def by(*arguments: str, text: str = "") -> Any:
        return service.run(*arguments, text=text, **own)

    assert by("login", service.url, text="not-the-right-key\n").returncode == Exit.NOT_ALLOWED
    assert not (tmp_path / "tuneyard").exists()
    assert by("login", service.url, text=f"{KEY}\n").returncode == 0
    assert "project\tdefault" in by("whoami").stdout
    assert KEY not in by("config", "list").stdout
    assert by("config", "get", "key").stdout == f"{KEY}\n"
    by("logout")
    assert by("list").returncode == Exit.NOT_ALLOWED


def test_a_file_is_checked_and_not_kept(service: Up) -> None:
    before = tuneyard(service, "files", "list", "-q").stdout
    (service.cwd / "wrong.jsonl").write_text('{"text": \n')

    good = tuneyard(service, "files", "check", "text.jsonl")
    bad = tuneyard(service, "files", "check", "wrong.jsonl")

    assert "rows\t100" in good.stdout
    assert (good.returncode, bad.returncode) == (0, Exit.DATA_REFUSED)
    assert tuneyard(service, "files", "list", "-q").stdout == before


def test_pull_resumes_and_verifies(service: Up, trained: str) -> None:
    """A partial file is gone on with; what is there already is not fetched again."""
    whole = Path(tuneyard(service, "pull", trained, "--to", "whole").stdout.strip())
    weights = (whole / "adapter_model.safetensors").read_bytes()
    name = f"adapter_model.safetensors.{hashlib.sha256(weights).hexdigest()[:8]}.partial"
    torn = service.cwd / "torn"
    torn.mkdir()
    (torn / name).write_bytes(weights[:1000])

    done = tuneyard(service, "pull", trained, "--to", "torn")

    assert done.returncode == 0, done.stderr
    assert (torn / "adapter_model.safetensors").read_bytes() == weights
    assert sorted(path.name for path in torn.iterdir()) == sorted(
        path.name for path in whole.iterdir()
    )


def test_pull_throws_away_what_arrived_damaged(service: Up, trained: str) -> None:
    whole = Path(tuneyard(service, "pull", trained, "--to", "good").stdout.strip())
    weights = (whole / "adapter_model.safetensors").read_bytes()
    name = f"adapter_model.safetensors.{hashlib.sha256(weights).hexdigest()[:8]}.partial"
    bad = service.cwd / "bad"
    bad.mkdir()
    (bad / name).write_bytes(b"\0" * 1000)

    first = tuneyard(service, "pull", trained, "--to", "bad")
    second = tuneyard(service, "pull", trained, "--to", "bad")

    assert first.returncode == 1
    assert "arrived damaged" in first.stderr
    assert second.returncode == 0
    assert (bad / "adapter_model.safetensors").read_bytes() == weights


def test_pull_of_an_earlier_step(service: Up, trained: str) -> None:
    earlier = tuneyard(service, "pull", trained, "--step", "3", "--to", "earlier")
    missing = tuneyard(service, "pull", trained, "--step", "4")

    assert earlier.returncode == 0, earlier.stderr
    assert missing.returncode == Exit.NOT_FOUND


def test_pause_resume_and_cancel(service: Up) -> None:
    # Without a limit its checkpoints would not fit on the disk, and it would wait for room.
    settings = sets(max_steps=100_000, save_total_limit=1)
    job_id = tuneyard(service, *SUBMIT, *settings).stdout.strip()
    until(lambda: shown(service, job_id)["progress"]["step"] >= 3)

    assert tuneyard(service, "pause", job_id).returncode == 0
    until(lambda: shown(service, job_id)["status"] == "paused")
    resumed = json.loads(tuneyard(service, "resume", job_id, "--json").stdout)
    until(lambda: shown(service, job_id)["status"] == "running")
    cancelled = tuneyard(service, "cancel", job_id)
    watched = tuneyard(service, "watch", job_id)

    assert resumed["status"] == "queued"
    assert cancelled.returncode == 0
    assert watched.returncode == Exit.JOB_CANCELLED
    assert tuneyard(service, "resume", job_id).returncode == Exit.CONFLICT


def test_a_failed_job_says_why_and_exits_with_10(service: Up) -> None:
    done = tuneyard(service, "submit", "local/broken", "-f", "text.jsonl", *sets(), "--watch")

    job = shown(service, done.stdout.strip())
    page = tuneyard(service, "show", job["id"]).stdout
    assert f"  Try       {job['error']['suggestion']}" in page
    assert f"/docs/guide/errors#{job['error']['code']}" in page
    assert done.returncode == Exit.JOB_FAILED, done.stderr
    assert job["error"]["message"] in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_setting_is_refused_at_its_place(service: Up) -> None:
    done = tuneyard(service, *SUBMIT, "--set", "learning_rte=0.1")

    assert done.returncode == Exit.USAGE
    assert "learning_rate" in done.stderr
    assert done.stdout == ""


def test_bad_data_is_refused_with_its_line(service: Up) -> None:
    (service.cwd / "bad.jsonl").write_text('{"text": "good"}\n{"text": \n')

    done = tuneyard(service, "submit", "local/tiny-llama", "-f", "bad.jsonl")

    assert done.returncode == Exit.DATA_REFUSED
    assert "2" in done.stderr


def test_exit_codes_of_refusals(service: Up) -> None:
    nobody = partial(service.run, "list")

    assert nobody().returncode == Exit.NOT_ALLOWED
    assert nobody(TUNEYARD_API_KEY="not-the-right-key").returncode == Exit.NOT_ALLOWED
    assert tuneyard(service, "show", "ftjob-" + "0" * 24).returncode == Exit.NOT_FOUND
    assert tuneyard(service, "show", "nothing-like-it").returncode == Exit.NOT_FOUND
    assert tuneyard(service, "submit", "x", "--file", "none.jsonl").returncode == Exit.USAGE


def test_nouns_list_what_there_is(service: Up, trained: str) -> None:
    assert trained in tuneyard(service, "jobs", "list").stdout
    assert "local/tiny-llama" in tuneyard(service, "models", "list").stdout
    assert "seen" in tuneyard(service, "workers", "list").stdout
    steps = tuneyard(service, "checkpoints", "list", trained).stdout.splitlines()
    assert [line.split("\t")[0] for line in steps] == ["6", "3"]
    metrics = tuneyard(service, "jobs", "metrics", trained).stdout.splitlines()
    assert metrics[0].startswith("step,")
    assert len(metrics) == 1 + 6


def test_a_file_is_uploaded_shown_counted_and_deleted(service: Up, trained: str) -> None:
    file_id = tuneyard(service, "files", "upload", "text.jsonl").stdout.strip()

    assert file_id in tuneyard(service, "files", "list").stdout
    assert '"shape": "text"' in tuneyard(service, "files", "show", file_id).stdout
    counted = tuneyard(service, "files", "tokens", file_id, "local/tiny-llama")
    assert "trained_tokens\t" in counted.stdout, counted.stderr
    assert tuneyard(service, "files", "delete", file_id).returncode == 0
    assert tuneyard(service, "files", "show", file_id).returncode == Exit.NOT_FOUND


def test_a_download_is_verified_again(service: Up, trained: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    download = ("checkpoints", "download", trained, "--to", str(folder))
    assert tuneyard(service, *download).returncode == 0
    check = ("checkpoints", "verify", trained, "6", str(folder))
    assert tuneyard(service, *check).returncode == 0

    (folder / "adapter_config.json").write_text("{}")

    damaged = tuneyard(service, *check)
    assert damaged.returncode == Exit.ERROR
    assert "adapter_config.json" in damaged.stderr


def test_waiting_has_an_end(service: Up, trained: str) -> None:
    assert tuneyard(service, "jobs", "wait", trained, trained).returncode == 0
    slow = tuneyard(service, *SUBMIT, *sets(max_steps=5000)).stdout.strip()

    waited = tuneyard(service, "jobs", "wait", slow, "--timeout", "0")

    assert waited.returncode == Exit.TIMED_OUT
    assert tuneyard(service, "jobs", "cancel", slow).returncode == 0


def test_the_doctor_finds_a_worker_and_a_model(service: Up, trained: str) -> None:
    done = tuneyard(service, "doctor", "--json")

    found = {check["check"]: check for check in json.loads(done.stdout)}
    assert set(found) == {"command", "config", "disk", "server", "key", "worker"}
    assert found["worker"]["ok"], found


def test_any_call_can_be_made(service: Up, trained: str) -> None:
    done = tuneyard(service, "api", "get", f"/v1/fine_tuning/jobs/{trained}")

    assert json.loads(done.stdout)["id"] == trained
