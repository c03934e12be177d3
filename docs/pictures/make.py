"""Makes all pictures of README and guide from the real product: `python docs/pictures/make.py`.

A service of its own trains tiny models; Chromium looks at its pages and a terminal at its command,
light and dark. Names as arguments (`job failure watch`) make only these.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from docs.pictures import draw, terminal
from examples.demo.prepare_model import NAME, prepare_model
from examples.tiny_model import make_tiny_model, write_pydoc_text
from tests.page.browser import chromium, open_browser
from tests.servers.service import running_service

HERE = Path(__file__).parent
ROOT = HERE.resolve().parents[1]
JOBS = "/v1/fine_tuning/jobs"
WIDTH, HEIGHT = 1280, 860
COLOURS = 256
PATIENCE_MS = 300_000
MOST_BYTES = 150_000
TINY = "local/tiny-llama"
TRAINING = {
    "logging_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 20,
    "save_steps": 40,
    "max_length": 128,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
}
IN_JAPANESE = ("job", "new", "failure")


@dataclass
class Scene:
    """A service with jobs to look at."""

    url: str
    home: Path
    client: httpx.Client
    file: str = ""
    done: tuple[str, ...] = ()
    running: str = ""
    failed: str = ""


@dataclass(frozen=True)
class View:
    """A page, and what is done and waited for before it is looked at."""

    address: str
    prepare: Callable[[Page], None]
    height: int = HEIGHT


def main() -> None:
    """Train, look, and keep what was seen."""
    executable = chromium()
    if executable is None:
        sys.exit("Chromium is missing.")
    draw.main()
    wanted = sys.argv[1:]
    with staged() as scene:
        with open_browser(executable) as browser:
            if not wanted or "new" in wanted:
                # Before any job has taught the planner how busy this machine is.
                look(browser, scene, "new")
            if wanted != ["new"]:
                train(scene)
            for name in ("job", "jobs", "failure", "compare", "workers"):
                if not wanted or name in wanted:
                    look(browser, scene, name)
        if not wanted or "watch" in wanted:
            watch(scene)


def look(browser: Browser, scene: Scene, name: str) -> None:
    """All pictures of a page."""
    view = views(scene)[name]
    for theme in ("light", "dark"):
        take(browser, scene.url, view, name, theme)
        if name in IN_JAPANESE:
            take(browser, scene.url, view, name, theme, language="ja")


@contextmanager
def staged() -> Iterator[Scene]:
    """A running service with a file and two models."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        models = home / "models"
        make_tiny_model("llama", models / "tiny-llama")
        real = prepare_model(Path.home() / ".tuneyard" / "models").parent
        url = f"sqlite:///{home / 'tuneyard.db'}"
        with (
            running_service(
                home, database_url=url, models=models, MODEL_ROOTS=f"{models}:{real}"
            ) as service,
            httpx.Client(base_url=service.url, timeout=60) as client,
        ):
            scene = Scene(service.url, home, client)
            write_pydoc_text(home / "rows.jsonl", rows=200)
            rows = {"file": ("rows.jsonl", (home / "rows.jsonl").read_bytes())}
            answer = client.post("/v1/files", data={"purpose": "fine-tune"}, files=rows)
            scene.file = answer.json()["id"]
            yield scene


def train(scene: Scene) -> None:
    """Two jobs that end well, one that fails, and one that runs while it is looked at."""
    scene.done = (
        create(scene, "first try", max_steps=80),
        create(scene, "smaller steps", max_steps=80, learning_rate=2e-4),
    )
    # Ends by itself in seconds, whatever the machine, and names no path of it.
    scene.failed = create(scene, "lunch break", {"max_seconds": 10}, max_steps=6000)
    for job in (*scene.done, scene.failed):
        while scene.client.get(f"{JOBS}/{job}").json()["status"] not in ("succeeded", "failed"):
            time.sleep(0.5)
    scene.running = create(scene, "more steps", max_steps=6000)


def create(scene: Scene, name: str, more: Mapping[str, Any] | None = None, **training: Any) -> str:
    """A job; its id."""
    body = {
        **(more or {}),
        "model": TINY,
        "training_file": scene.file,
        "validation_file": scene.file,
        "suffix": name,
        "sample_prompts": ["The function returns"],
        "training": TRAINING | training,
    }
    answer = scene.client.post(JOBS, json=body)
    answer.raise_for_status()
    return str(answer.json()["id"])


def views(scene: Scene) -> dict[str, View]:
    """By the name of the picture."""
    return {
        "job": View(f"/jobs/{scene.running}", lambda page: wait_for_points(page, 50)),
        "jobs": View("/", lambda page: see(page, ".spark"), 420),
        "new": View(f"/new?file={scene.file}", fill),
        "failure": View(f"/jobs/{scene.failed}", lambda page: see(page, ".diagnosis"), 620),
        "compare": View(f"/compare?ids={','.join(scene.done)}", compared, 720),
        "workers": View("/workers", lambda page: see(page, ".grid .card"), 620),
    }


def see(page: Page, selector: str) -> None:
    """Wait until it is there."""
    page.wait_for_selector(selector, timeout=PATIENCE_MS)


def wait_for_points(page: Page, count: int) -> None:
    """Until the curve has so many."""
    page.wait_for_function(
        "count => Number(document.querySelector('[data-points]')?.dataset.points) >= count",
        arg=count,
        timeout=PATIENCE_MS,
    )


def compared(page: Page) -> None:
    """Both curves are drawn."""
    see(page, "canvas")
    page.wait_for_load_state("networkidle")


def fill(page: Page) -> None:
    """A job that does not fit, and what would."""
    page.fill("input[name=model]", f"local/{NAME}")
    page.fill("input[name=per_device_train_batch_size]", "64")
    page.fill("input[name=max_length]", "1024")
    see(page, ".verdict button")


def take(
    browser: Browser, url: str, view: View, name: str, theme: Any, *, language: str = "en"
) -> None:
    """One picture, in few colours."""
    context = browser.new_context(
        base_url=url,
        color_scheme=theme,
        viewport={"width": WIDTH, "height": view.height},
        locale=language,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(view.address)
    view.prepare(page)
    mark = "" if language == "en" else f"-{language}"
    path = HERE / f"{name}{mark}-{theme}.png"
    page.screenshot(path=path)
    context.close()
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(COLOURS, kmeans=2)
    few.save(path, optimize=True)
    assert path.stat().st_size < MOST_BYTES, path


def watch(scene: Scene) -> None:
    """The command in a terminal, in the middle of a job."""
    scene.client.post(f"{JOBS}/{scene.running}/cancel")
    typed = (
        f"tuneyard submit {TINY} --file rows.jsonl --set max_steps=300 "
        "--set save_steps=50 --set learning_rate=0.001 --watch"
    )
    command = [sys.executable, "-m", "cli.main", *typed.split()[1:]]
    environment = {"PYTHONPATH": str(ROOT), "TUNEYARD_URL": scene.url, "HOME": str(scene.home)}
    printed = terminal.watch(command, environment, r"step 1\d\d/", scene.home)
    lines = typed.replace(" --set", " \\\n    --set", 1)
    terminal.draw(lines, printed, "tuneyard submit --watch", HERE / "watch")


if __name__ == "__main__":
    main()
