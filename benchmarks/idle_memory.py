"""What the service costs when nothing trains, and beside a training.

    python benchmarks/idle_memory.py --seconds 20

Goals: API and worker together under 300 MB, and under 2 % of one core beside a running job.

Method: `tuneyard up` with a tiny model; one job is run to its end, then after some idle seconds the
resident (RSS) and the proportional (PSS) memory of each process is read. PSS counts a shared page
by its share, so PSS may be added up. The reference is one Python process that has imported TRL's
SFTTrainer and done nothing: the least that a worker which trains in its own process would hold.
Then a job of about a step a second runs, and the CPU time of each process over some seconds is
divided by them: first while nobody looks, then while one client reads the job's live stream. The
reference is the training child.
"""

import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.material import tiny_llama, write_long_text
from benchmarks.report import Report, parser_of
from benchmarks.service import Service, running_service

OURS = ("api", "worker")
NAMES = ("api", "worker", "forkserver", "broker", "guards")
SHORT = {"max_steps": 10, "per_device_train_batch_size": 4, "max_length": 64, "logging_steps": 1}
LONG = {
    "max_steps": 100_000,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 8,
    "max_length": 256,
    "logging_steps": 1,
    "save_strategy": "no",
}
GOAL_MB, GOAL_PERCENT = 300, 2.0
IMPORT = "import sys; from trl import SFTTrainer; print('ready', flush=True); sys.stdin.read()"

Memory = tuple[float, float]
"""RSS and PSS in MB."""
Percent = dict[str, float]
"""Of one core, by process."""


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each look at a running job")
    parser.add_argument("--idle", type=float, default=5, help="seconds after the first job")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tiny_llama(home / "models")
        data = write_long_text(home / "rows.jsonl", rows=512, tokens=256)
        with running_service(home / "service", models=home / "models") as service:
            job = {"model": "local/tiny-llama", "training_file": service.upload(data)}
            service.finish(service.submit(**job, training=SHORT))
            time.sleep(given.idle)
            memory = {name: measure_memory(p) for name, p in service.processes().items()}
            alone, watched = measure_cpu(service, job, given.seconds)
    report(memory, reference_memory(), alone, watched).show(as_json=given.json)


def measure_memory(processes: list[psutil.Process]) -> Memory:
    """Of all these processes."""
    full = [process.memory_full_info() for process in processes]
    return sum(each.rss for each in full) / 1e6, sum(each.pss for each in full) / 1e6


def reference_memory() -> Memory:
    """Of a process that has imported the trainer."""
    command = [sys.executable, "-c", IMPORT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        memory = measure_memory([psutil.Process(process.pid)])
        process.stdin.close()
    return memory


def measure_cpu(service: Service, job: dict[str, Any], seconds: float) -> tuple[Percent, Percent]:
    """Beside a job that trains: while nobody looks, and with one reader of its stream."""
    job_id = service.submit(**job, training=LONG)
    next(event for event in service.events(job_id) if event["type"] == "metrics")
    alone = cpu_percent(service, seconds)
    reader = threading.Thread(target=lambda: deque(service.events(job_id), maxlen=0))
    reader.start()
    watched = cpu_percent(service, seconds)
    service.cancel(job_id)
    reader.join()
    return alone, watched


def cpu_percent(service: Service, seconds: float) -> Percent:
    """Percent of one core that each process uses in the next seconds."""
    processes = service.processes()
    started, first = time.perf_counter(), {n: _cpu_seconds(p) for n, p in processes.items()}
    time.sleep(seconds)
    passed, last = time.perf_counter() - started, {n: _cpu_seconds(p) for n, p in processes.items()}
    return {name: 100 * (last[name] - first[name]) / passed for name in processes}


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def report(
    memory: dict[str, Memory], reference: Memory, alone: Percent, watched: Percent
) -> Report:
    """Each process, the sums, and the references."""
    result = Report(
        "Memory at idle, and CPU beside a running job",
        ["", "RSS MB", "PSS MB", "PSS of reference", "CPU %", "CPU % read", "read, of child"],
    )

    def add(label: str, names: tuple[str, ...]) -> tuple[float, float]:
        rss, pss = (sum(memory[name][i] for name in names) for i in (0, 1))
        cpu, read = (sum(percent[name] for name in names) for percent in (alone, watched))
        shares = pss / reference[1], read / watched["child"]
        result.rows.append([label, round(rss), round(pss), shares[0], cpu, read, shares[1]])
        return rss, cpu

    for name in NAMES:
        add(name, (name,))
    rss, cpu = add("api + worker", OURS)
    add("everything", NAMES)
    rows = [round(reference[0]), round(reference[1]), 1.0, None, None, None]
    result.rows.append(["trl imported", *rows])
    child = [None, None, None, alone["child"], watched["child"], 1.0]
    result.rows.append(["training child", *child])
    result.goals = [
        (f"api + worker under {GOAL_MB} MB (RSS): {rss:.0f}", rss < GOAL_MB),
        (f"api + worker under {GOAL_PERCENT} % of one core: {cpu:.1f}", cpu < GOAL_PERCENT),
    ]
    return result


if __name__ == "__main__":
    main()
