"""Takes the pictures of the README from the real product: `python docs/pictures/make.py`.

A service of its own trains a tiny model; Chromium looks at its pages, light and dark.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.tiny_model import make_tiny_model, write_pydoc_text
from tests.page.browser import chromium, open_browser
from tests.servers.service import running_service

HERE = Path(__file__).parent
JOBS = "/v1/fine_tuning/jobs"
SIZE = {"width": 1280, "height": 860}
TRAINING = {
    "logging_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 40,
    "save_steps": 80,
    "max_length": 128,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
}


def main() -> None:
    """Train, look, and keep what was seen."""
    executable = chromium()
    if executable is None:
        sys.exit("Chromium is missing.")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        models = home / "models"
        make_tiny_model("llama", models / "tiny-llama")
        url = f"sqlite:///{home / 'tuneyard.db'}"
        with running_service(home, database_url=url, models=models) as service:
            done, running = start(service.url, home)
            with open_browser(executable) as browser:
                for theme in ("light", "dark"):
                    take(browser, service.url, theme, done, running)


def start(url: str, home: Path) -> tuple[str, str]:
    """One job that ends, and one that runs while it is looked at."""
    path = home / "rows.jsonl"
    write_pydoc_text(path, rows=200)
    with httpx.Client(base_url=url, timeout=60) as client:
        rows = {"file": (path.name, path.read_bytes())}
        file = client.post("/v1/files", data={"purpose": "fine-tune"}, files=rows).json()["id"]
        done = create(client, file, "first try", 160)
        while client.get(f"{JOBS}/{done}").json()["status"] != "succeeded":
            client.get(f"{JOBS}/{done}/events", params={"limit": 1})
        return done, create(client, file, "more steps", 2000)


def create(client: httpx.Client, file: str, name: str, steps: int) -> str:
    """A job; its id."""
    body: dict[str, Any] = {
        "model": "local/tiny-llama",
        "training_file": file,
        "validation_file": file,
        "suffix": name,
        "sample_prompts": ["The function returns"],
        "training": TRAINING | {"max_steps": steps},
    }
    answer = client.post(JOBS, json=body)
    answer.raise_for_status()
    return str(answer.json()["id"])


def take(browser: Browser, url: str, theme: str, done: str, running: str) -> None:
    """The job's page and the list, in one theme."""
    context = browser.new_context(base_url=url, color_scheme=theme, viewport=SIZE, locale="en-US")  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"/jobs/{running}")
    wait_for_points(page, 30)
    page.screenshot(path=HERE / f"job-{theme}.png")
    page.goto("/")
    page.wait_for_selector(".spark")
    page.screenshot(path=HERE / f"jobs-{theme}.png", clip={"x": 0, "y": 0, **SIZE, "height": 300})
    context.close()


def wait_for_points(page: Page, count: int) -> None:
    """Until the curve has so many."""
    page.wait_for_function(
        "count => Number(document.querySelector('[data-points]')?.dataset.points) >= count",
        arg=count,
        timeout=120_000,
    )


if __name__ == "__main__":
    main()
