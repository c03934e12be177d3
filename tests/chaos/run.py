"""A chaos run: users at work, a monkey at work, and the bill."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from sqlalchemy import func, select

from core.events import read_metrics
from core.models import Attempt, Checkpoint, Event
from examples.tiny_model import write_pydoc_text
from tests.chaos.checker import violations
from tests.chaos.monkey import Monkey
from tests.chaos.user import Promise, User
from tests.chaos.world import WORKERS, World

ROWS = 100
STEPS = 100
TRAINING = {
    "max_steps": STEPS,
    "logging_steps": 1,
    "save_steps": 10,
    "save_total_limit": 2,
    "max_length": 48,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-3,
}
END_SECONDS = 30
"""How long an orphan may need to notice; one that is loading libraries first finishes that."""


@dataclass
class Bill:
    """What was done to a service, what it did, and what is wrong with it."""

    harms: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    """By their end."""
    attempts: Counter[str] = field(default_factory=Counter)
    """By their outcome."""
    num_events: int = 0
    num_checkpoints: int = 0
    violations: list[str] = field(default_factory=list)


def run_chaos(world: World, monkey: Monkey, *, seconds: float, users: int, seed: int) -> Bill:
    """Let users work and the monkey harm for so long, let all come to rest, and look."""
    body = {"model": "local/tiny-llama", "training_file": upload(world), "training": TRAINING}
    told_to_stop = threading.Event()
    crowd = [
        User(world.service.url, body=body, seed=seed + number, stop=told_to_stop)
        for number in range(users)
    ]
    for user in crowd:
        user.start()
    monkey.run(seconds)
    told_to_stop.set()
    for user in crowd:
        user.join()
    promises = [promise for user in crowd for promise in user.promises]
    bill = Bill(harms=monkey.done)
    bill.violations += [f"{user.name}: {user.error!r}" for user in crowd if user.error is not None]
    for name in WORKERS:
        world.service.stop(name)
    bill.violations += _left(world) + violations(world.database, world.storage, promises)
    _count(world, bill, promises)
    return bill


def upload(world: World) -> str:
    """Upload rows of text; the id of the file."""
    path = write_pydoc_text(world.home / "text.jsonl", rows=ROWS)
    with path.open("rb") as file:
        answer = httpx.post(
            f"{world.service.url}/v1/files", files={"file": file}, data={"purpose": "fine-tune"}
        )
    file_id: str = answer.raise_for_status().json()["id"]
    return file_id


def _left(world: World) -> list[str]:
    """Processes and files of attempts, of which none runs any more."""
    _, alive = psutil.wait_procs(world.children_left(), timeout=END_SECONDS)
    found = [f"process {process.pid} still trains" for process in alive]
    return found + [f"scratch holds {name}" for name in world.scratch_left()]


def _count(world: World, bill: Bill, promises: list[Promise]) -> None:
    bill.jobs.update(
        "deleted after its end" if promise.is_deleted else str(promise.status)
        for promise in promises
    )
    curves: dict[tuple[float, ...], str] = {}
    with world.database.read() as session:
        for promise in promises:
            if not promise.is_deleted and promise.status == "succeeded":
                losses = read_metrics(session, promise.job_id).get("train_loss", [])
                curves.setdefault(tuple(losses), promise.job_id)
        bill.attempts.update(str(outcome) for outcome in session.scalars(select(Attempt.outcome)))
        bill.num_events = session.scalar(select(func.count()).select_from(Event)) or 0
        bill.num_checkpoints = session.scalar(select(func.count()).select_from(Checkpoint)) or 0
    if len(curves) > 1:
        bill.violations.append(f"equal jobs had other losses: {sorted(curves.values())}")


def worker_logs(folder: Path) -> str:
    """The ends of all logs of a service, for the reader of a failure."""
    logs = sorted(folder.glob("*.log"))
    return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)
