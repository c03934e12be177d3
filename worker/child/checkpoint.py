"""What leaves this machine in a checkpoint, and what must be there to go on from one."""

import json
from pathlib import Path

from worker.child.failure import ChildFailure
from worker.child.order import Order

NEEDED = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
"""Without one of these the trainer would silently begin again with a fresh one."""


def clean_checkpoint(folder: Path, order: Order) -> None:
    """Remove what is about this machine and its operator; the rest resumes as before."""
    # A pickle of the whole configuration, which nothing reads again.
    (folder / "training_args.bin").unlink(missing_ok=True)
    # PEFT's card knows this folder's name and little else. The supervisor writes one.
    (folder / "README.md").unlink(missing_ok=True)
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        config = json.loads(adapter.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = order.public_model
        adapter.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_resumable(folder: Path) -> None:
    """ChildFailure if the trainer could not go on from this checkpoint exactly."""
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise ChildFailure("invalid_checkpoint", f"The checkpoint has no {', '.join(missing)}.")
    try:
        json.loads((folder / "trainer_state.json").read_bytes())
    except ValueError as error:
        raise ChildFailure(
            "invalid_checkpoint", "The checkpoint's trainer_state.json is damaged."
        ) from error
