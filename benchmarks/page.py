"""How the page of a long job behaves in a real browser while the job is watched.

    python benchmarks/page.py --rounds 5

Goals: at most 120 KB on the wire, first paint within 500 ms; while 10,000 points and 50,000 lines
of log stream in, 95 % of the frames within 20 ms; then at most 40 MB of JavaScript heap; a server
that is killed half-way costs no point and no line, and repeats none.

Method: the real server over SQLite; this process writes the events as a worker would, in
transactions of 50 points and 250 lines. Debian's Chromium without a window and without a GPU, on
the same machine. First paint: cold contexts, medians. Frames: the times between animation frames
from the first event to the last. Heap: after a collection. The kill is SIGKILL at half the points;
the server comes back at the same address. Lines have no number that the page could compare, so
their count shows both losses and repetitions.
"""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
from playwright.sync_api import Browser, Page, expect

from benchmarks.report import Report, parser_of
from cli.embedded.broker import free_port
from core.db import Database, database_now
from core.events import NewEvent
from core.migrate import upgrade
from core.queue import Lease, claim_job, record
from core.states import EventKind
from tests.page.browser import chromium, open_browser

POINTS, LINES, BATCHES = 10_000, 50_000, 200
STREAM_SECONDS = 10
PATIENCE_MS = 120_000
LEASE_SECONDS = 3600
WIRE_GOAL, PAINT_GOAL, FRAME_GOAL, HEAP_GOAL = 120_000, 500, 20, 40 * 1024**2

WATCH_FRAMES = """() => {
    window.frames_ms = [];
    window.long_tasks = 0;
    new PerformanceObserver(list => (window.long_tasks += list.getEntries().length))
        .observe({type: "longtask"});
    let last = performance.now();
    const step = now => {
        window.frames_ms.push(now - last);
        last = now;
        requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
}"""
TAKE_FRAMES = "() => [window.frames_ms.splice(0).slice(1), window.long_tasks]"
PAINTED = "() => performance.getEntriesByName('first-contentful-paint').length > 0"
LOADED = """() => {
    const parts = [...performance.getEntriesByType("navigation"),
        ...performance.getEntriesByType("resource")];
    const ours = parts.filter(one => !one.name.includes("/v1/"));
    return [performance.getEntriesByName("first-contentful-paint")[0].startTime,
        ours.reduce((sum, one) => sum + one.transferSize, 0), ours.length];
}"""
SCROLL = """async () => {
    const box = document.querySelector("[role=log]");
    const steps = 120;
    for (let i = 0; i <= steps; i++) {
        box.scrollTop = (box.scrollHeight * i) / steps;
        await new Promise(requestAnimationFrame);
    }
}"""
SEARCH = """async () => {
    const box = document.querySelector(".logs input[type=search]");
    const times = [];
    for (const text of ["l", "li", "line 49", "line 49999", "nowhere"]) {
        const began = performance.now();
        box.value = text;
        box.dispatchEvent(new InputEvent("input", {bubbles: true}));
        times.push(performance.now() - began);
        await new Promise(requestAnimationFrame);
    }
    return Math.max(...times);
}"""


@dataclass
class Site:
    """A server that can be killed, and the database below it."""

    home: Path
    port: int
    database: Database
    server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
            "TUNEYARD_HOME": str(self.home),
            "DATABASE_URL": self.database.url,
            "MODEL_ROOTS": str(self.home / "models"),
        }
        command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
        command += ["--port", str(self.port), "--log-level", "warning"]
        self.server = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while not self._is_ready():
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9."""
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz").is_success
        except httpx.TransportError:
            return False


@contextmanager
def serving(home: Path) -> Iterator[Site]:
    """A server with one model and an empty database."""
    (home / "models" / "tiny").mkdir(parents=True)
    (home / "models" / "tiny" / "config.json").write_text("{}")
    database = Database(f"sqlite:///{home / 'page.db'}")
    upgrade(database)
    site = Site(home, free_port(), database)
    site.start()
    try:
        yield site
    finally:
        site.kill()
        database.close()


def start_job(site: Site) -> Lease:
    """A job that nobody trains but us."""
    rows = b'{"text": "row"}\n' * 20
    with httpx.Client(base_url=site.url) as client:
        files = {"file": ("rows.jsonl", rows)}
        file = client.post("/v1/files", files=files, data={"purpose": "fine-tune"}).json()
        body = {"model": "local/tiny", "training_file": file["id"]}
        client.post("/v1/fine_tuning/jobs", json=body).raise_for_status()
    with site.database.write() as session:
        now = database_now(session)
        claimed = claim_job(session, worker="bench", now=now, lease_seconds=LEASE_SECONDS)
    assert claimed is not None
    return claimed[1]


def feed(site: Site, lease: Lease) -> None:
    """Write all points and lines over some seconds, as a worker would."""
    began = time.monotonic()
    for batch in range(BATCHES):
        points = range(batch * POINTS // BATCHES, (batch + 1) * POINTS // BATCHES)
        lines = range(batch * LINES // BATCHES, (batch + 1) * LINES // BATCHES)
        events = [_point(number + 1) for number in points] + [_line(number) for number in lines]
        with site.database.write() as session:
            record(session, lease, events, now=database_now(session))
        due = began + (batch + 1) * STREAM_SECONDS / BATCHES
        time.sleep(max(0.0, due - time.monotonic()))


def _point(step: int) -> NewEvent:
    data: dict[str, Any] = {
        "step": step,
        "total_steps": POINTS,
        "train_loss": 2 + 9 / step,
        "num_tokens": 512.0 * step,
        "memory_bytes": 2**30 + (step % 7) * 2**20,
        "logged_at": 1_700_000_000 + step / 10,
    }
    return NewEvent(kind=EventKind.METRICS, message=f"Step {step}", data=data)


def _line(number: int) -> NewEvent:
    return NewEvent(kind=EventKind.LOG, message=f"line {number} loss=0.6216 grad_norm=1.55")


def measure_load(browser: Browser, url: str, rounds: int) -> tuple[float, int, int]:
    """Milliseconds to the first paint (median), bytes, and requests of a cold start."""
    found = []
    for _ in range(rounds):
        context = browser.new_context(base_url=url)
        page = context.new_page()
        page.goto("/", wait_until="networkidle")
        # A busy machine is done with the network before it has painted.
        page.wait_for_function(PAINTED, timeout=PATIENCE_MS)
        found.append(page.evaluate(LOADED))
        context.close()
    return statistics.median(one[0] for one in found), found[-1][1], found[-1][2]


def watch(browser: Browser, site: Site, lease: Lease, *, is_killed: bool) -> Page:
    """The page of a job after all of its events; the server is killed half-way if it is to be."""
    page = browser.new_context(base_url=site.url).new_page()
    page.goto(f"/jobs/{lease.job_id}")
    expect(page.locator("[data-points='0']")).to_be_visible()
    page.evaluate(WATCH_FRAMES)
    feeder = threading.Thread(target=feed, args=(site, lease))
    feeder.start()
    if is_killed:
        _wait_for_points(page, POINTS // 2)
        site.kill()
        expect(page.get_by_text("Reconnecting…")).to_be_visible(timeout=PATIENCE_MS)
        site.start()
    _wait_for_points(page, POINTS)
    feeder.join()
    expect(page.locator(".logs header")).to_contain_text(f"{LINES:,} lines", timeout=PATIENCE_MS)
    return page


def _wait_for_points(page: Page, count: int) -> None:
    page.wait_for_function(
        "count => Number(document.querySelector('[data-points]')?.dataset.points) >= count",
        arg=count,
        timeout=PATIENCE_MS,
    )


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure(browser: Browser, site: Site, rounds: int) -> Report:
    """All of it."""
    report = Report("The page of a job in Chromium", ["what", "median", "p95", "most"])
    paint, sent, requests = measure_load(browser, site.url, rounds)
    report.rows.append([f"first paint, ms ({rounds} cold starts)", paint, None, None])
    report.rows.append([f"bytes on the wire ({requests} requests)", None, None, sent])

    page = watch(browser, site, start_job(site), is_killed=False)
    frames, long_tasks = page.evaluate(TAKE_FRAMES)
    streaming = percentile(frames, 0.95)
    report.rows.append(_frames_row("frames while streaming, ms", frames))
    report.rows.append(["tasks over 50 ms while streaming", None, None, long_tasks])
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    report.rows.append(["JavaScript heap, MB", None, None, heap / 1024**2])
    rows = page.locator(".logs .row").count()
    report.rows.append([f"rows drawn of {LINES:,} lines", None, None, rows])
    page.evaluate(TAKE_FRAMES)
    page.evaluate(SCROLL)
    report.rows.append(_frames_row("frames while scrolling, ms", page.evaluate(TAKE_FRAMES)[0]))
    report.rows.append(["search in all lines, ms a key", None, None, page.evaluate(SEARCH)])
    page.context.close()

    page = watch(browser, site, start_job(site), is_killed=True)
    points = int(page.locator("[data-points]").get_attribute("data-points") or 0)
    lines = page.locator(".logs header small").first.inner_text()
    report.rows.append(["points after a kill half-way", None, None, points])
    report.rows.append(["lines after a kill half-way", None, None, lines.removesuffix(" lines")])
    is_whole = points == POINTS and lines == f"{LINES:,} lines"
    report.goals += [
        (f"{sent:,} of {WIRE_GOAL:,} bytes", sent <= WIRE_GOAL),
        (f"first paint after {paint:.0f} of {PAINT_GOAL} ms", paint <= PAINT_GOAL),
        (f"95 % of frames within {streaming:.1f} of {FRAME_GOAL} ms", streaming <= FRAME_GOAL),
        (f"{heap / 1024**2:.1f} of {HEAP_GOAL / 1024**2:.0f} MB of heap", heap <= HEAP_GOAL),
        ("every point and line exactly once after a kill", is_whole),
    ]
    return report


def _frames_row(name: str, frames: list[float]) -> list[str | int | float | None]:
    return [name, statistics.median(frames), percentile(frames, 0.95), max(frames)]


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=5, help="cold starts")
    options = parser.parse_args()
    executable = chromium()
    if executable is None:
        raise SystemExit("Chromium is missing: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory(prefix="tuneyard-page-") as home,
        serving(Path(home)) as site,
        open_browser(executable) as browser,
    ):
        report = measure(browser, site, options.rounds)
    report.show(as_json=options.json)
    sys.exit(not all(reached for _, reached in report.goals))


if __name__ == "__main__":
    main()
