"""A site with a trained job, for clients of the Hub that run in this process or outside of it."""

from dataclasses import dataclass

import pytest

from tests.api.conftest import Site, api_settings, models, site

__all__ = ["api_settings", "models", "site"]

WEIGHTS = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": bytes(range(256)) * 4096,
    "tokenizer.json": b"{}",
    "README.md": b"---\nlibrary_name: transformers\n---\n",
    "sub/folder/notes.txt": b"notes",
}
STATE = {"optimizer.pt": b"secret state", "trainer_state.json": b"{}"}


@dataclass(frozen=True)
class Trained:
    """A job with checkpoints of steps 2 and 4."""

    site: Site
    job_id: str
    commits: dict[int, str]

    @property
    def name(self) -> str:
        """The job's repository."""
        return f"jobs/{self.job_id}"


@pytest.fixture
def trained(site: Site) -> Trained:
    """A running job with two checkpoints; the weights differ, the rest is the same."""
    lease = site.start()
    commits = {}
    for step in (2, 4):
        files = WEIGHTS | STATE | {"model.safetensors": WEIGHTS["model.safetensors"] + b"%d" % step}
        commits[step] = site.publish(lease, step, files).revision
    return Trained(site, lease.job_id, commits)
