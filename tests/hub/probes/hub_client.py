"""Run by the interpreter of a client version: does what users do, and prints what came of it."""

import hashlib
import json
import os
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub as hub

WANTED = json.loads(sys.argv[1])
JOB, BULK, WRONG = WANTED["job"], WANTED["bulk"], WANTED["wrong_token"]
API = hub.HfApi()
RESULTS: dict[str, Any] = {"version": hub.__version__}


def attempt(name: str, call: Callable[[], Any]) -> None:
    """Keep what a call gives, or the names of the class of its error and of all its bases."""
    urllib.request.urlopen(f"{WANTED['site']}/healthz?mark={name}").close()
    try:
        RESULTS[name] = call()
    except Exception as error:  # noqa: BLE001 - what it raises is what the test asks
        response = getattr(error, "response", None)
        RESULTS[name] = {
            "error": [kind.__name__ for kind in type(error).__mro__],
            "status": response.status_code if response is not None else None,
            "message": str(error),
        }


def digests(folder: str) -> dict[str, str]:
    """SHA-256 of each file below a folder."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): digest(path) for path in paths}


def digest(path: str | Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def blobs() -> dict[str, Any]:
    """Size and SHA-256 of the files of a revision."""
    siblings = API.model_info(JOB, revision="step-2", files_metadata=True).siblings
    return {item.rfilename: [item.size, item.lfs.sha256] for item in siblings}


def tail_of_huge() -> str:
    """The last bytes of a file of 5 GB, of which the rest is never asked for."""
    with hub.HfFileSystem().open(f"{BULK}/huge.safetensors", "rb", block_size=2**16) as file:
        file.seek(-16, os.SEEK_END)
        return str(file.read().decode())


def big() -> str:
    """A file whose download is cut off; a client that gives up is asked again."""
    for _ in range(2):
        try:
            return digest(hub.hf_hub_download(BULK, "big.safetensors"))
        except OSError:
            continue
    return "gave up"


def main() -> None:
    """Do it all, in order."""
    attempt("info", lambda: API.model_info(JOB).sha)
    attempt("blobs", blobs)
    attempt("files", lambda: API.list_repo_files(JOB, revision="step-2"))
    attempt("pages", lambda: len(API.list_repo_files(BULK)))
    attempt("tree", lambda: [item.path for item in API.list_repo_tree(JOB, expand=True)])
    attempt("tags", lambda: {ref.name: ref.target_commit for ref in API.list_repo_refs(JOB).tags})
    attempt("commits", lambda: [item.title for item in API.list_repo_commits(JOB)])
    paths = ["config.json", "nothing"]
    attempt("paths", lambda: [item.path for item in API.get_paths_info(JOB, paths)])
    attempt("repo_exists", lambda: [API.repo_exists(JOB), API.repo_exists("a/b")])
    revisions = ("step-2", "step-3")
    attempt("revision_exists", lambda: [API.revision_exists(JOB, name) for name in revisions])
    attempt("file_exists", lambda: [API.file_exists(JOB, name) for name in paths])
    attempt("whoami", lambda: API.whoami()["name"])
    attempt("auth_check", lambda: API.auth_check(JOB))
    attempt("models", lambda: [model.id for model in API.list_models(author="jobs")])
    attempt("card", lambda: hub.ModelCard.load(JOB).data.to_dict())

    attempt("first", lambda: digests(hub.snapshot_download(JOB, revision="step-2")))
    attempt("second", lambda: digests(hub.snapshot_download(JOB, revision="step-2")))
    attempt("one", lambda: digest(hub.hf_hub_download(JOB, "config.json", revision="step-2")))
    attempt("alias", lambda: digests(hub.snapshot_download(f"{JOB}.step-2")))
    attempt("newest", lambda: digests(hub.snapshot_download(JOB)))
    target = Path(os.environ["HF_HOME"]) / "taken-home"
    attempt("local", lambda: digest(hub.hf_hub_download(JOB, "config.json", local_dir=target)))
    attempt("verify", lambda: API.verify_repo_checksums(JOB, revision="step-2").checked_count)
    attempt("odd_name", lambda: digest(hub.hf_hub_download(BULK, WANTED["odd_name"])))
    attempt("big", big)
    attempt("tail_of_huge", tail_of_huge)
    url = hub.hf_hub_url(BULK, "huge.safetensors")
    attempt("size_of_huge", lambda: hub.get_hf_file_metadata(url).size)

    attempt("no_repository", lambda: hub.hf_hub_download("jobs/nothing", "config.json"))
    attempt("no_revision", lambda: hub.hf_hub_download(JOB, "config.json", revision="step-3"))
    attempt("no_file", lambda: hub.hf_hub_download(JOB, "nothing.json"))
    attempt("no_file_again", lambda: hub.hf_hub_download(JOB, "nothing.json"))
    attempt("wrong_token", lambda: API.model_info(JOB, token=WRONG))
    attempt("wrong_token_whoami", lambda: API.whoami(token=WRONG))
    attempt("end", lambda: None)
    print(json.dumps(RESULTS))


main()
