"""Turns what a training child says into events and progress of its job."""

import time
from collections import deque
from pathlib import Path
from typing import Any

from core.events import NewEvent
from core.states import EventKind
from worker.disk import DiskWatch
from worker.loglines import LineSplitter
from worker.publisher import Finished, Publisher
from worker.recorder import Recorder
from worker.redaction import Redaction
from worker.watchdog import Watchdog

LAST_LINES = 40


class Relay:
    """Hears one child. Nothing here waits for the database or the storage."""

    def __init__(
        self,
        recorder: Recorder,
        publisher: Publisher,
        watchdog: Watchdog,
        disk: DiskWatch,
        *,
        step: int,
        redaction: Redaction,
    ):
        self._recorder = recorder
        self._publisher = publisher
        self._watchdog = watchdog
        self._disk = disk
        self._redaction = redaction
        self._lines = LineSplitter()
        self.step = step
        """Optimizer steps that are done, as far as is known."""
        self.phase = "fetch"
        """What the child does now, as far as is known."""
        self.trained_tokens: int | None = None
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        """The end of the log, as evidence."""
        self.ending: dict[str, Any] | None = None
        """The child's last word: `finished` or `failed`."""

    def hear(self, message: dict[str, Any]) -> None:
        """Take one message of the child."""
        self._watchdog.saw_life()
        handler = getattr(self, f"_on_{message['type']}")
        handler(message)

    def hear_log(self, data: bytes) -> None:
        """Take what the child printed; no bytes mean that it has closed its log."""
        for line in self._lines.feed(data) if data else self._lines.finish():
            self.log(line)

    def log(self, line: str) -> None:
        """Add a line to the job's log."""
        line = self._redaction.apply(line)
        self.last_lines.append(line)
        self._recorder.add(NewEvent(kind=EventKind.LOG, message=line))

    def _on_phase(self, message: dict[str, Any]) -> None:
        self.phase = message["phase"]
        self._recorder.add(phase=self.phase)

    def _on_resolved(self, message: dict[str, Any]) -> None:
        facts = {key: value for key, value in message.items() if key != "type"}
        self._recorder.add(resolved=facts, total_steps=message["total_steps"])

    def _on_data_report(self, message: dict[str, Any]) -> None:
        report = {key: value for key, value in message.items() if key != "type"}
        self._recorder.add(data_report=report)

    def _on_metrics(self, message: dict[str, Any]) -> None:
        step, total = message["step"], message["total_steps"]
        data = {
            "step": step,
            "total_steps": total,
            **message["data"],
            "memory_bytes": message["memory_bytes"],
            "logged_at": round(time.time(), 3),
        }
        self.step = step
        self.trained_tokens = data.get("num_tokens", self.trained_tokens)
        event = NewEvent(kind=EventKind.METRICS, message=_metrics_line(data), data=data)
        self._recorder.add(event, step=step, total_steps=total)

    def _on_progress(self, message: dict[str, Any]) -> None:
        self.step = message["step"]
        self._watchdog.saw_step(self.step)
        self._recorder.add(step=message["step"], total_steps=message["total_steps"])

    def _on_checkpoint(self, message: dict[str, Any]) -> None:
        folder = Path(message["path"])
        self._disk.saw_checkpoint(folder)
        self._publisher.add(Finished(message["step"], folder, message.get("metrics", {})))

    def _on_samples(self, message: dict[str, Any]) -> None:
        step = message["step"]
        event = NewEvent(
            kind=EventKind.SAMPLES,
            message=f"What the model answers at step {step}.",
            data={"step": step, "samples": message["samples"]},
        )
        self._recorder.add(event)

    def _on_finished(self, message: dict[str, Any]) -> None:
        self.ending = message
        self.step = message["step"]

    def _on_failed(self, message: dict[str, Any]) -> None:
        self.ending = message | {"message": self._redaction.apply(message["message"])}


def _metrics_line(data: dict[str, Any]) -> str:
    """OpenAI's wording of a metrics event."""
    parts = [f"Step {data['step']}/{data['total_steps']}"]
    for name, words in (("train_loss", "training loss"), ("valid_loss", "validation loss")):
        if name in data:
            parts.append(f"{words}={data[name]:.4f}")
    return ": ".join([parts[0], ", ".join(parts[1:])]) if len(parts) > 1 else parts[0]
