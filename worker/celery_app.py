"""Celery's entry: `celery -A worker.celery_app worker -P threads`.

A message means "look at the queue" and nothing more. It is acknowledged early, has no result and
is never retried: losing or doubling it is harmless.
"""

import logging
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_shutdown, worker_shutting_down

from core.doorbell import TASK_NAME
from core.logs import set_up_logging
from core.settings import Settings
from worker.forkserver import child_environment, warm
from worker.machine import Machine
from worker.runtime import Runtime

settings = Settings.from_environment()

app = Celery("tuneyard", broker=settings.redis_url or "memory://")
app.conf.update(
    task_acks_late=False,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=1,
    # A busy worker must not keep a ring to itself for hours.
    worker_disable_prefetch=settings.redis_url is not None,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    accept_content=["json"],
    # Whoever reaches the broker may ring, and neither stop workers nor look into them.
    worker_enable_remote_control=False,
)

_runtime: list[Runtime] = []
"""The one runtime of this process, once it is started."""


@app.task(name=TASK_NAME, ignore_result=True)
def wake() -> None:
    """Run what is queued; a doubled or late message finds nothing, which is normal."""
    for runtime in _runtime:
        runtime.work()


@setup_logging.connect
def _set_up_logging(loglevel: int = logging.INFO, **_: Any) -> None:
    set_up_logging(loglevel)


@worker_init.connect
def _start(**_: Any) -> None:
    try:
        devices = Machine(settings).for_children
        warm(child_environment(scratch=settings.scratch_folder / "home", devices=devices))
        runtime = Runtime.from_settings(settings)
    except Exception as error:
        # Celery goes on after what a handler raises, as a worker that never takes a job.
        raise SystemExit(f"The worker cannot start: {error!r}") from error
    _runtime.append(runtime)
    runtime.start()


@worker_shutting_down.connect
def _leave(**_: Any) -> None:
    for runtime in _runtime:
        runtime.leave()


@worker_shutdown.connect
def _join(**_: Any) -> None:
    for runtime in _runtime:
        runtime.join()
