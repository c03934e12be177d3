"""The life of a training child, from its fork to its last message."""

import ctypes
import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from multiprocessing import util
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import datasets
import orjson
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging as transformers_logging

from core.arguments import user_names
from core.sandbox import enter_sandbox
from worker.child.arguments import resolved_arguments
from worker.child.build import build_trainer
from worker.child.callback import JobCallback
from worker.child.checkpoint import check_resumable
from worker.child.failure import ChildFailure, StoppedBeforeTraining, explain
from worker.child.link import SupervisorLink
from worker.child.memory import held_memory_bytes, limit_memory, peak_memory_bytes
from worker.child.order import Order
from worker.child.samples import SampleCallback
from worker.child.trainer import JobTrainer

PR_SET_PDEATHSIG = 1
OOM_SCORE = "500"
SHARED_MEMORY = "/dev/shm"


def run(control: Connection, log: Connection) -> None:
    """Take an order from the supervisor, train it, and exit: 0 when finished, 1 when failed."""
    _leave_the_nest(log)
    order = Order.model_validate(orjson.loads(control.recv_bytes()), strict=False)
    _settle_in(order)
    link = SupervisorLink(control, lease_seconds=order.lease_seconds)
    link.listen()
    child = Child(order, link)
    sys.exit(child.run())


class Child:
    """Trains one order and tells the supervisor about it."""

    def __init__(self, order: Order, link: SupervisorLink):
        self._order = order
        self._link = link
        self._phase = "load"
        self._callback = JobCallback(
            link.send,
            must_stop=lambda: link.must_stop,
            must_save=lambda: link.must_save,
            held_memory_bytes=lambda: held_memory_bytes(order.device),
        )
        self._trainer: JobTrainer | None = None
        self._has_begun = False

    def run(self) -> int:
        """Train, say how it ended, and return the exit code."""
        try:
            step, total_steps = self._train()
        except BaseException as error:  # noqa: BLE001 - whatever ends a child, it must say so
            self._fail(error)
            return 1
        self._link.send(
            "finished",
            step=step,
            total_steps=total_steps,
            stopped=step < total_steps,
            seconds_per_step=self._callback.seconds_per_step,
            peak_memory_bytes=peak_memory_bytes(self._order.device),
        )
        return 0

    def _train(self) -> tuple[int, int]:
        """The step that was reached, and the one that was to be."""
        order = self._order
        if order.memory_bytes is not None:
            limit_memory(order.memory_bytes, order.device)
        if order.resume_from is not None:
            check_resumable(order.resume_from)
        self._trainer = trainer = build_trainer(
            order,
            callbacks=[self._callback, _Announce(self), *self._samplers()],
            on_phase=self._enter,
            before_save=self._link.wait_for_room,
            after_save=self._saved,
        )
        self._link.send("data_report", **self._data_reports(trainer))
        self._enter("train")
        try:
            trainer.train(resume_from_checkpoint=order.resume_from and str(order.resume_from))
        except StoppedBeforeTraining as stopped:
            return stopped.step, stopped.total_steps
        return trainer.state.global_step, trainer.state.max_steps

    def _data_reports(self, trainer: JobTrainer) -> dict[str, Any]:
        """By "train" and "eval": the report, with the commit of a Hub dataset."""
        reports: dict[str, Any] = {"train": None, "eval": None}
        for name, report in trainer.data_reports.items():
            source = self._order.train if name == "train" else self._order.eval
            assert source is not None
            commit = {} if source.revision is None else {"revision": source.revision}
            reports[name] = report.to_dict() | commit
        return reports

    def announce(self, state: TrainerState) -> None:
        """Tell what is going to be trained, and how."""
        assert self._trainer is not None
        self._has_begun = True
        model = self._trainer.model
        self._link.send(
            "resolved",
            training=resolved_arguments(self._order, self._trainer.args, user_names("training")),
            total_steps=state.max_steps,
            trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
            total_parameters=model.num_parameters(),
        )

    def _samplers(self) -> list[TrainerCallback]:
        prompts = self._order.sample_prompts
        return [SampleCallback(self._link.send, prompts)] if prompts else []

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._link.send("phase", phase=phase)

    def _saved(self, folder: Path) -> None:
        assert self._trainer is not None
        step = self._trainer.state.global_step
        self._link.send_checkpoint(step, folder, self._callback.metrics_at_save())

    def _fail(self, error: BaseException) -> None:
        is_resuming = self._phase == "train" and not self._has_begun
        phase = "resume" if is_resuming else self._phase
        failure = explain(error, self._order, phase=phase)
        is_unforeseen = self._phase == "load" and not isinstance(error, ChildFailure)
        if failure.code == "internal" or is_unforeseen:
            traceback.print_exception(error)
        self._link.send(
            "failed",
            code=failure.code,
            message=failure.message,
            param=failure.param,
            retryable=failure.is_retryable,
            step=self._trainer.state.global_step if self._trainer else 0,
            in_evaluation=_is_evaluating(error),
            depends_on_batch=self._has_begun,
            peak_memory_bytes=peak_memory_bytes(self._order.device),
        )


def _is_evaluating(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name == "evaluation_loop" for frame in frames)


class _Announce(TrainerCallback):  # type: ignore[misc]
    def __init__(self, child: Child):
        self._child = child

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self._child.announce(state)


def _leave_the_nest(log: Connection) -> None:
    """Become a process that can be killed as a group, and that does not outlive the worker."""
    os.setsid()
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    log.close()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # When memory runs out the kernel is to end the child, not the worker.
    Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


def _settle_in(order: Order) -> None:
    """Use the cores and the folder of this order, and no others."""
    # Notices to programmers, in a log that users read.
    warnings.simplefilter("ignore", FutureWarning)
    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(order.threads)
    # The tokenizers library counts cores by itself, when it is first used.
    os.environ["RAYON_NUM_THREADS"] = str(order.threads)
    if order.is_sandboxed and order.training.get("dataloader_num_workers"):
        _place_sockets()
    temporary = order.scratch / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    # Data loader processes are forks of this one, not of the forkserver.
    multiprocessing.set_start_method("fork", force=True)
    if order.is_sandboxed:
        enter_sandbox(readable=order.inputs, writable=order.scratch)


def _place_sockets() -> None:
    """Let workers of the data loader hand tensors over from inside the walls.

    The forkserver's folder is outside, and the names of sockets in scratch could be too long.
    """
    multiprocessing.current_process()._config.pop("tempdir")  # type: ignore[attr-defined]
    tempfile.tempdir = SHARED_MEMORY
    util.get_temp_dir()  # removes it at exit
