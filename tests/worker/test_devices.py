"""What a worker tells of its GPUs and does by it, from readings that were written down by hand.

No GPU was there when this was written: worker/nvml.py, which asks the driver, is not run here.
"""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.db import Database, database_now
from core.models import Job, Worker
from core.settings import Settings
from core.states import JobStatus
from core.storage import Storage
from tests.factories import make_job
from worker.devices import Device, read_devices, visible_devices
from worker.machine import Machine, training_device
from worker.runtime import Runtime

GIB = 1024**3
A10 = Device("GPU-a10a", "NVIDIA A10", 24 * GIB, 20 * GIB, (8, 6))
T4 = Device("GPU-74b0", "Tesla T4", 16 * GIB, 15 * GIB, (7, 5))
PART = Device("MIG-11aa", "NVIDIA A100 MIG 1g.10gb", 10 * GIB, 9 * GIB, None)
ALL = (A10, T4, PART)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, [A10, T4, PART]),
        ("1,0", [T4, A10]),
        (" 1 ", [T4]),
        ("GPU-74", [T4]),
        ("MIG-11aa", [PART]),
        ("", []),
        ("-1", []),
        ("0,7,1", [A10]),
        ("GPU-", []),
        ("0,0", [A10]),
    ],
)
def test_only_devices_that_the_variable_leaves_are_seen(
    allowed: str | None, expected: list[Device]
) -> None:
    assert visible_devices(ALL, allowed) == expected


def machine(tmp_path: Path, *readings: Device, allowed: str | None = None) -> Machine:
    settings = Settings(
        TUNEYARD_HOME=tmp_path, TUNEYARD_DEVICE="cuda", CUDA_VISIBLE_DEVICES=allowed
    )
    return Machine(settings, lambda: readings)


def test_the_facts_are_those_of_the_first_device_that_is_allowed(tmp_path: Path) -> None:
    second = machine(tmp_path, *ALL, allowed="1,0")
    first = machine(tmp_path, *ALL)

    facts = second.facts()

    assert facts["device_memory_bytes"] == 16 * GIB
    assert [device["name"] for device in facts["devices"]] == ["Tesla T4", "NVIDIA A10"]
    assert (facts["bf16"], first.facts()["bf16"]) == (False, True)
    assert (second.for_children, second.free_bytes) == ("GPU-74b0", 15 * GIB)


def test_a_driver_that_tells_nothing_leaves_memory_unknown(tmp_path: Path) -> None:
    silent = machine(tmp_path, allowed="1,0")

    facts = silent.facts()

    assert (facts["device_memory_bytes"], facts["devices"], facts["bf16"]) == (None, [], False)
    assert (silent.memory_bytes, silent.free_bytes) == (None, None)
    assert silent.for_children == "1"
    assert machine(tmp_path).for_children is None


def test_a_machine_without_a_driver_is_a_cpu(tmp_path: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("here is a driver")

    assert read_devices() == ()
    assert training_device(Settings(TUNEYARD_HOME=tmp_path)) == "cpu"


class Readings:
    """What the driver says, which may change."""

    def __init__(self, *devices: Device):
        self.devices = devices

    def __call__(self) -> tuple[Device, ...]:
        return self.devices


def test_a_worker_reports_its_device_and_claims_by_its_free_memory(
    database: Database, storage: Storage, tmp_path: Path
) -> None:
    settings = Settings(TUNEYARD_HOME=tmp_path, TUNEYARD_DEVICE="cuda", POLL_SECONDS=0.05)
    with database.write() as session:
        job = make_job(session, now=database_now(session))
        job.memory_bytes = 21 * GIB
    readings = Readings(A10)
    runtime = Runtime(settings, database, storage, Machine(settings, readings))

    runtime.start()
    before = wait_for_report(database, runtime.name, free=20 * GIB)
    readings.devices = (replace(A10, free_bytes=8 * GIB),)
    after = wait_for_report(database, runtime.name, free=8 * GIB)
    runtime.leave()
    runtime.join()

    assert before["device_memory_bytes"] == 24 * GIB
    assert after["devices"][0]["memory_free_bytes"] == 8 * GIB
    with database.read() as session:
        assert session.get_one(Job, job.id).status is JobStatus.QUEUED


def wait_for_report(database: Database, name: str, *, free: int) -> dict[str, Any]:
    """The facts of a worker, once it has reported so much free memory."""
    pause = threading.Event()
    while True:
        with database.read() as session:
            row = session.get(Worker, name)
            if row is not None and row.facts["memory_free_bytes"] == free:
                return row.facts
        pause.wait(0.02)
