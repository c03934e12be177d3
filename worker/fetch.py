"""Fetch one model or dataset from the Hugging Face Hub: `python -m worker.fetch '{...}'`.

Run by the worker in a process of its own, so that neither the supervisor nor the training child
needs the network, the token or the libraries. It reaches public addresses, the Hub that was
configured, and what the operator allows. The last line on stdout is the answer.
"""

import hashlib
import json
import re
import sys
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from datasets import Dataset, IterableDataset, load_dataset
from datasets.data_files import EmptyDatasetError
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError, DatasetsError
from datasets.features.features import require_decoding
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from core.egress import Egress, addresses_of, guard_process
from core.errors import AddressNotAllowed, InvalidModel
from core.model_check import ADAPTER, CONFIG, TOKENIZER_CONFIG, check_small_files

MODEL_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "tokenizer*"]
"""No pickles: weights come as safetensors or not at all."""

COMMIT = re.compile("[0-9a-f]{40}")
SCRIPTS = "Dataset scripts are no longer supported"
"""What the library says, as a RuntimeError, to a dataset that is a program."""
SMALL_FILES = [CONFIG, ADAPTER, TOKENIZER_CONFIG]

NOT_FOUND = (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, DatasetNotFoundError)


def main() -> int:
    """Fetch what the first argument asks for."""
    request = json.loads(sys.argv[1])
    allowed = [ip_network(network) for network in request["allowed"]]
    guard_process(Egress([*allowed, *addresses_of(request["trusted"])]))
    try:
        fetch = fetch_model if request["kind"] == "model" else fetch_dataset
        return _answer(fetch(request))
    except NOT_FOUND as error:
        code = f"{request['kind']}_not_found"
        return _answer({"code": code, "message": _what_is_missing(request, error)}, error)
    except (HfHubHTTPError, LocalEntryNotFoundError, ConnectionError) as error:
        message = f"The Hub did not deliver {request['name']!r}: {_first_line(error)}"
        return _answer({"code": "hub_unavailable", "message": message}, error)
    except InvalidModel as error:
        return _answer({"code": "invalid_model", "message": error.message}, error)
    except AddressNotAllowed as error:
        return _answer({"code": "hub_unavailable", "message": error.message}, error)
    except (ValueError, DatasetsError, EmptyDatasetError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and SCRIPTS not in str(error):
            raise
        code = "invalid_model" if request["kind"] == "model" else "invalid_argument"
        return _answer({"code": code, "message": _first_line(error)}, error)


def _what_is_missing(request: dict[str, Any], error: Exception) -> str:
    name, revision = request["name"], request["revision"] or ""
    if isinstance(error, RevisionNotFoundError) and COMMIT.fullmatch(revision):
        return (
            f"The Hub no longer has commit {revision} of {name!r}, which this job began with. "
            "Submit a new job to train with what is there now."
        )
    return f"The Hub has no {request['kind']} {name!r} that this server may read."


def fetch_model(request: dict[str, Any]) -> dict[str, Any]:
    """The snapshot of a model repository, complete or not at all.

    What its small files say against it is said before the weights are on their way.
    """
    name, revision = request["name"], request["revision"]
    small = Path(snapshot_download(name, revision=revision, allow_patterns=SMALL_FILES))
    check_small_files(name, small)
    # A snapshot's folder has the name of its commit: the weights are of the same one.
    folder = Path(snapshot_download(name, revision=small.name, allow_patterns=MODEL_FILES))
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{name!r} has no safetensors weights; pickled weights are not loaded.")
    return {"path": str(folder), "revision": folder.name}


def fetch_dataset(request: dict[str, Any]) -> dict[str, Any]:
    """One split of a dataset, saved as Arrow files that need no network to load."""
    commit = request["revision"] or ""
    if not COMMIT.fullmatch(commit):
        info = HfApi().dataset_info(request["name"], revision=request["revision"])
        commit = str(info.sha)
    about = [request["name"], request["config"], request["split"], commit, request.get("stream")]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    target = Path(request["folder"]) / "saved" / key
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=target.parent, suffix=".partial") as staging:
            found = _rows(request, commit, key, Path(staging))
            found.save_to_disk(f"{staging}/saved")
            Path(staging, "saved").rename(target)
    return {"path": str(target), "revision": commit}


def _rows(request: dict[str, Any], commit: str, key: str, staging: Path) -> Dataset:
    rows = load_dataset(
        request["name"],
        request["config"],
        split=request["split"],
        revision=commit,
        streaming="stream" in request,
    )
    if isinstance(rows, Dataset):
        return rows
    assert isinstance(rows, IterableDataset)
    rows = _some(rows, **request["stream"])
    written = Dataset.from_generator(
        partial(iter, rows),
        features=rows.features,
        cache_dir=str(staging / "cache"),
        fingerprint=key[:32],
    )
    assert isinstance(written, Dataset)
    return written


def _some(stream: IterableDataset, *, rows: int | None, seed: int | None) -> IterableDataset:
    """The first rows of a stream, or all; with a seed, of one that is shuffled as it is read."""
    if seed is not None:
        stream = stream.shuffle(seed=seed)
    if rows is not None:
        stream = stream.take(rows)
    if stream.features is None:
        return stream
    # Reading an image or a sound would open whatever address stands in its cell.
    kinds = stream.features.items()
    return stream.select_columns([name for name, kind in kinds if not require_decoding(kind)])


def _answer(answer: dict[str, Any], error: Exception | None = None) -> int:
    if error is not None:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
    sys.stdout.write(json.dumps({"tuneyard": answer}, separators=(",", ":")) + "\n")
    return 0 if error is None else 1


def _first_line(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, DatasetGenerationError) else None
    return str(cause or error).strip().partition("\n")[0][:500]


if __name__ == "__main__":
    sys.exit(main())
