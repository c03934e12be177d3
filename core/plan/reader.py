"""Finds the facts of a model by its name, and keeps them."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from core.base_model import local_folder, parse_model
from core.db import project_of
from core.errors import InvalidArgument, ModelNotFound, Unavailable
from core.hub_client import HubClient, HubModel
from core.model_check import check_config
from core.model_facts import (
    INDEX,
    MAX_CONFIG_BYTES,
    WEIGHTS,
    ModelFacts,
    Shapes,
    facts_of_folder,
    header_size,
    make_facts,
    parse_config,
    parse_header,
)
from core.permissions import get_usable_job

READ_SECONDS = 10.0
AWAY_SECONDS = 10.0
"""A Hub that did not answer is not asked again for so long: each job would wait for it."""
KEPT_SECONDS = 3600.0
MAX_DEPTH = 8
HALF_TYPES = ("bfloat16", "float16")


class FactsReader:
    """Reads each model once. Only `prefetch` uses the network; call it outside of a transaction."""

    def __init__(self, model_roots: Sequence[Path], hub: HubClient):
        self._roots = model_roots
        self._client = hub
        self._lock = threading.Lock()
        self._folders: dict[Path, tuple[int, ModelFacts]] = {}
        self._hub: dict[str, tuple[float, ModelFacts]] = {}
        self._away_until = 0.0

    def is_fetched(self, name: str) -> bool:
        """Whether the facts of a model need no network, as those of all but the Hub's never do."""
        return parse_model(name).kind != "hub" or self._cached(name) is not None

    def prefetch(self, name: str) -> None:
        """Fetch the facts of a Hub model, where they are not here."""
        if self.is_fetched(name):
            return
        if time.monotonic() < self._away_until:
            raise Unavailable(
                f"The Hub does not answer for {name}; it is asked again in some seconds.",
                param="model",
            )
        try:
            facts = self._from_hub(name)
        except Unavailable:
            self._away_until = time.monotonic() + AWAY_SECONDS
            raise
        with self._lock:
            self._hub[name] = (time.monotonic(), facts)

    def read(self, session: Session, name: str, *, project_id: str | None = None) -> ModelFacts:
        """The facts of a model; of a job's, those of the model that it began from."""
        project_id = project_id or project_of(session)
        for _ in range(MAX_DEPTH):
            model = parse_model(name)
            if model.kind == "local":
                return self._from_folder(name)
            if model.kind == "hub":
                facts = self._cached(name)
                if facts is None:
                    raise Unavailable(f"The facts of {name} are not here.", param="model")
                return facts
            assert model.job_id is not None
            job = get_usable_job(session, model.job_id, model.step, project_id=project_id)
            # What a permitted checkpoint began from is its own project's.
            name, project_id = job.base_model, job.project_id
        raise InvalidArgument("Too many jobs in a row.", param="model")

    def _from_folder(self, name: str) -> ModelFacts:
        folder = local_folder(name, self._roots)
        changed = (folder / "config.json").stat().st_mtime_ns
        with self._lock:
            known = self._folders.get(folder)
        if known is not None and known[0] == changed:
            return known[1]
        facts = facts_of_folder(name, folder)
        with self._lock:
            self._folders[folder] = (changed, facts)
        return facts

    def _cached(self, name: str) -> ModelFacts | None:
        with self._lock:
            known = self._hub.get(name)
        if known is None or time.monotonic() - known[0] > KEPT_SECONDS:
            return None
        return known[1]

    def _from_hub(self, name: str) -> ModelFacts:
        with self._client.opened(name, seconds=READ_SECONDS) as model:
            raw = model.read("config.json", MAX_CONFIG_BYTES)
            if raw is None:
                raise ModelNotFound(f"The Hub has no config.json of {name}.", param="model")
            config = parse_config(name, raw)
            check_config(name, config)
            return _counted(model, name, config)


def _counted(model: HubModel, name: str, config: dict[str, Any]) -> ModelFacts:
    index = model.read(INDEX, MAX_CONFIG_BYTES * 4)
    if index is not None:
        return make_facts(name, config, total_shapes(name, index, config))
    first = model.read(WEIGHTS, 8)
    if first is None:
        return make_facts(name, config, {})
    size = header_size(name, WEIGHTS, first)
    header = model.read(WEIGHTS, 8 + size)
    return make_facts(name, config, parse_header(name, WEIGHTS, (header or b"")[8:]))


def total_shapes(name: str, index: bytes, config: Mapping[str, Any]) -> Shapes:
    """All shards as if they were one tensor: their index says how many bytes they are."""
    try:
        size = max(0, int(json.loads(index)["metadata"]["total_size"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InvalidArgument(
            f"The model {name} cannot be read: its {INDEX} is damaged.", param="model"
        ) from error
    dtype = config.get("dtype") or config.get("torch_dtype")
    return {"all": ([size // (2 if dtype in HALF_TYPES else 4)], "F")}
