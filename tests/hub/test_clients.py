"""Stock clients of the Hub, unchanged but for HF_ENDPOINT and a key: all of them work."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.tiny_model import make_tiny_model
from tests.hub.clients import PROBES, node_client, node_tool, python_client, run_probe
from tests.hub.shelf import (
    HUGE_BYTES,
    MARK,
    ODD_NAME,
    PAGED_FILES,
    ROWS,
    WRONG_KEY,
    Shelf,
    stocked_shelf,
)

pytestmark = [
    pytest.mark.training,
    # Notices of the libraries to each other.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

INSTALLED = "installed"
VERSIONS = (INSTALLED, "1.33.0", "0.36.2")
NODE_HUB = "2.17.5"
BASE = "local/tiny"
CUT_BYTES = 12 * 1024**2


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """The server that all clients talk to."""
    folder = tmp_path_factory.mktemp("shelf")
    models = {"root": folder / "models"}
    base = make_tiny_model("llama", models["root"] / "tiny")
    for step in (2, 4):
        models[f"whole-{step}"] = make_tiny_model("llama", folder / f"whole-{step}", seed=step)
    models["adapter-2"] = _make_adapter(base, folder / "adapter-2")
    with stocked_shelf(folder / "home", models) as shelf:
        yield shelf


def _make_adapter(base: Path, folder: Path) -> Path:
    torch.manual_seed(5)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.save_pretrained(folder)
    saved = folder / "adapter_config.json"
    saved.write_text(saved.read_text().replace(str(base), BASE))
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=VERSIONS)
def client(
    request: pytest.FixtureRequest, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a version of huggingface_hub got from the server, and what it asked for."""
    home = tmp_path_factory.mktemp("client")
    environment = shelf.environment(home)
    if request.param != INSTALLED:
        environment["PYTHONPATH"] = str(python_client("huggingface_hub", request.param))
    shelf.tap.cut_at["/big.safetensors"] = CUT_BYTES
    plan = {"job": shelf.job, "bulk": shelf.bulk, "site": shelf.url}
    plan |= {"wrong_token": WRONG_KEY, "odd_name": ODD_NAME}
    found = run_probe([sys.executable, str(PROBES / "hub_client.py")], plan, environment)
    if request.param != INSTALLED:
        assert found["version"] == request.param
    marks = [name for name in found if name != "version"]
    return found | {"requests": {name: shelf.tap.since(name) for name in marks}}


def _names(shelf: Shelf) -> list[str]:
    return sorted(shelf.digests[2])


def _fails(result: Any, name: str, status: int) -> None:
    assert name in result["error"], result
    assert result["status"] == status


def test_a_repository_is_described(shelf: Shelf, client: dict[str, Any]) -> None:
    assert client["info"] == shelf.commits[4]
    assert {path: sha256 for path, (_, sha256) in client["blobs"].items()} == shelf.digests[2]
    assert sorted(client["files"]) == sorted(client["tree"]) == _names(shelf)
    assert client["pages"] == PAGED_FILES + 3
    assert client["tags"] == {f"step-{step}": commit for step, commit in shelf.commits.items()}
    assert client["commits"] == ["step-4", "step-2"]
    assert client["paths"] == ["config.json"]
    assert shelf.job in client["models"]
    assert client["card"]["base_model"] == BASE


def test_what_exists_exists(client: dict[str, Any]) -> None:
    for name in ("repo_exists", "revision_exists", "file_exists"):
        assert client[name] == [True, False], name


def test_the_key_is_somebody_who_may_read(client: dict[str, Any]) -> None:
    assert isinstance(client["whoami"], str)
    assert client["auth_check"] is None


def test_a_snapshot_is_byte_for_byte_what_was_published(
    shelf: Shelf, client: dict[str, Any]
) -> None:
    assert client["first"] == client["alias"] == shelf.digests[2]
    assert client["newest"] == shelf.digests[4]
    assert client["one"] == client["local"] == shelf.digests[2]["config.json"]


def test_the_second_time_nothing_is_downloaded(client: dict[str, Any]) -> None:
    requests = client["requests"]["second"]

    assert client["second"] == client["first"]
    assert 1 <= len(requests) <= 2
    assert not [seen for seen in requests if "/resolve/" in seen.path and seen.method == "GET"]


def test_a_file_that_did_not_change_is_not_downloaded_again(client: dict[str, Any]) -> None:
    downloads = {
        seen.path.rpartition("/")[2]
        for seen in client["requests"]["newest"]
        if seen.method == "GET" and "/resolve/" in seen.path and seen.sent
    }

    # The card was loaded before.
    assert downloads == {"model.safetensors", "loss.svg"}


def test_checksums_are_verified(shelf: Shelf, client: dict[str, Any]) -> None:
    if client["version"].startswith("0."):
        assert "AttributeError" in client["verify"]["error"]
    else:
        assert client["verify"] == len(shelf.digests[2])


def test_odd_names_are_found(client: dict[str, Any]) -> None:
    assert client["odd_name"] == hashlib.sha256(b"odd").hexdigest()


def test_an_interrupted_download_goes_on(shelf: Shelf, client: dict[str, Any]) -> None:
    downloads = [
        seen
        for seen in client["requests"]["big"]
        if seen.method == "GET" and seen.status in (200, 206)
    ]

    assert client["big"] == shelf.big_digest
    assert [seen.status for seen in downloads] == [200, 206]
    assert downloads[0].sent < downloads[0].sent + downloads[1].sent
    assert downloads[1].range is not None
    assert downloads[1].range.startswith("bytes=1")


def test_a_file_of_5_gb_has_its_size_and_its_end(client: dict[str, Any]) -> None:
    assert client["size_of_huge"] == HUGE_BYTES
    assert client["tail_of_huge"] == MARK.decode()
    assert sum(seen.sent for seen in client["requests"]["tail_of_huge"]) < 10**6


def test_errors_have_the_classes_of_the_hub(client: dict[str, Any]) -> None:
    _fails(client["no_repository"], "RepositoryNotFoundError", 404)
    _fails(client["no_revision"], "RevisionNotFoundError", 404)
    _fails(client["no_file"], "EntryNotFoundError", 404)
    for name in ("wrong_token", "wrong_token_whoami"):
        assert "RepositoryNotFoundError" not in client[name]["error"]
    _fails(client["wrong_token"], "HfHubHTTPError", 401)


def test_the_hf_command_downloads_verifies_and_knows_its_key(shelf: Shelf, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("hf")
    environment = shelf.environment(tmp_path) | {"PATH": "/usr/bin:/bin"}

    def hf(*arguments: str) -> str:
        done = subprocess.run(
            [str(command), *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    folder = Path(hf("download", shelf.job, "--revision", "step-2", "--quiet").strip())
    assert (folder / "config.json").is_file()
    verified = hf("cache", "verify", shelf.job, "--revision", "step-2", "--format", "json")
    assert str(len(shelf.digests[2])) in verified
    assert "default" in hf("auth", "whoami")


def test_the_hf_command_says_what_is_missing(shelf: Shelf, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("hf")), "download", shelf.job, "nothing.json"]

    done = subprocess.run(
        command, env=shelf.environment(tmp_path), capture_output=True, text=True, check=False
    )

    assert done.returncode != 0
    assert "nothing.json" in done.stdout + done.stderr


@pytest.fixture(scope="session")
def loaded(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What transformers, peft and datasets made of what they loaded by name."""
    plan = {"job": shelf.job, "adapter": shelf.adapter, "base": BASE, "files": shelf.files}
    command = [sys.executable, str(PROBES / "libraries.py")]
    home = tmp_path_factory.mktemp("libraries")
    found = run_probe(command, plan | {"site": shelf.url}, shelf.environment(home))
    return found | {"requests": shelf.tap.since("second")}


def test_transformers_loads_a_job_by_its_name(loaded: dict[str, Any]) -> None:
    assert loaded["step-2"] == loaded["again"]
    assert loaded["step-2"] != loaded["main"]
    assert loaded["chat"].startswith("<|im_start|>user\nExplain assert.")
    assert loaded["generated"] > 1


def test_transformers_asks_once_for_what_it_has(loaded: dict[str, Any]) -> None:
    assert len(loaded["requests"]) <= 2
    assert all(seen.method == "HEAD" or "/api/" in seen.path for seen in loaded["requests"])


def test_peft_finds_the_base_on_the_same_server(loaded: dict[str, Any]) -> None:
    assert loaded["peft"] != loaded["base"]
    assert loaded["peft"] == loaded["auto_peft"] == loaded["adapter_by_name"] == loaded["alias"]


@pytest.mark.parametrize("name", ["jsonl", "parquet", "csv", "json"])
def test_datasets_loads_uploaded_files(loaded: dict[str, Any], name: str) -> None:
    assert loaded[name] == [len(ROWS), ROWS[0]]
    assert loaded[f"{name}_streamed"] == ROWS[:2]


def test_datasets_takes_a_file_by_name(loaded: dict[str, Any]) -> None:
    assert loaded["chosen"] == len(ROWS)


def test_the_javascript_client_reads_everything(shelf: Shelf, tmp_path: Path) -> None:
    modules = node_client("@huggingface/hub", NODE_HUB)
    plan = {"modules": str(modules), "hub": f"{shelf.url}/hf", "job": shelf.job}
    plan |= {"token": shelf.environment(tmp_path)["HF_TOKEN"], "wrong": WRONG_KEY}
    plan |= {"bulk": shelf.bulk, "dataset": shelf.files["jsonl"]}

    found = run_probe(
        [node_tool("node"), str(PROBES / "hub.mjs")], plan, {"HF_HOME": str(tmp_path)}
    )

    assert found["whoami"] == "default"
    assert found["access"] == "yes"
    assert found["info"] == shelf.job
    assert shelf.job in found["models"]
    assert found["commits"] == ["step-4", "step-2"]
    assert found["files"] == _names(shelf)
    assert found["pages"] >= PAGED_FILES + 3
    assert (found["exists"], found["missing"]) == (True, False)
    assert found["downloaded"] == "llama"
    assert found["size_of_huge"] == HUGE_BYTES
    assert found["tail_of_huge"] == MARK.decode()
    assert found["dataset"] == sum(len(f'{{"text": "row {n}"}}\n') for n in range(20))
    assert found["snapshot"] is True
    for name, status in [("no_repository", 404), ("no_revision", 404), ("wrong_token", 401)]:
        assert found[name] == {"error": "HubApiError", "status": status}
