"""Fetch one model or dataset from the Hugging Face Hub: `python -m worker.fetch '{...}'`.

Run by the worker in a process of its own, so that neither the supervisor nor the training child
needs the network, the token or the libraries. It reaches public addresses, the Hub that was
configured, and what the operator allows. The last line on stdout is the answer.
"""

import hashlib
import json
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from datasets import DatasetDict, IterableDatasetDict, load_dataset
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from core.egress import Egress, addresses_of, guard_process
from core.errors import AddressNotAllowed

MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "tokenizer*"]
"""No pickles: weights come as safetensors or not at all."""

NOT_FOUND = (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, DatasetNotFoundError)


def main() -> int:
    """Fetch what the first argument asks for."""
    request = json.loads(sys.argv[1])
    allowed = [ip_network(network) for network in request["allowed"]]
    guard_process(Egress([*allowed, *addresses_of(request["trusted"])]))
    try:
        fetch = fetch_model if request["kind"] == "model" else fetch_dataset
        return _answer({"path": str(fetch(request))})
    except NOT_FOUND as error:
        message = f"The Hub has no {request['kind']} {request['name']!r} that this server may read."
        return _answer({"code": f"{request['kind']}_not_found", "message": message}, error)
    except (HfHubHTTPError, LocalEntryNotFoundError, ConnectionError) as error:
        message = f"The Hub did not deliver {request['name']!r}: {_first_line(error)}"
        return _answer({"code": "hub_unavailable", "message": message}, error)
    except AddressNotAllowed as error:
        return _answer({"code": "hub_unavailable", "message": error.message}, error)
    except ValueError as error:
        code = "invalid_model" if request["kind"] == "model" else "invalid_argument"
        return _answer({"code": code, "message": _first_line(error)}, error)


def fetch_model(request: dict[str, Any]) -> Path:
    """The snapshot of a model repository, complete or not at all."""
    folder = Path(snapshot_download(request["name"], allow_patterns=MODEL_FILES))
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{request['name']!r} has no safetensors weights; pickled weights are not loaded."
        )
    return folder


def fetch_dataset(request: dict[str, Any]) -> Path:
    """One split of a dataset, saved as Arrow files that need no network to load."""
    key = json.dumps([request.get(name) for name in ("name", "config", "split", "revision")])
    target = Path(request["folder"]) / "saved" / hashlib.sha256(key.encode()).hexdigest()
    if target.exists():
        return target
    dataset = load_dataset(
        request["name"],
        request.get("config"),
        split=request["split"],
        revision=request.get("revision"),
    )
    assert not isinstance(dataset, DatasetDict | IterableDatasetDict)
    staging = target.with_suffix(".partial")
    dataset.save_to_disk(str(staging))
    staging.rename(target)
    return target


def _answer(answer: dict[str, Any], error: Exception | None = None) -> int:
    if error is not None:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
    sys.stdout.write(json.dumps({"tuneyard": answer}, separators=(",", ":")) + "\n")
    return 0 if error is None else 1


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:500]


if __name__ == "__main__":
    sys.exit(main())
