"""How fast a checkpoint's file is downloaded from the API, against nginx on the same file.

    python benchmarks/download.py --nginx /usr/sbin/nginx

Goal: straight from the API at least half of what nginx reaches.

Method: one file in a local storage folder, a real API process, curl as the client, everything on
loopback and in the page cache; nginx and API take turns (A B A B), the fastest of each counts.
`range` asks for all but the first byte, as a download that goes on does.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.api_process import empty_database, running_api
from benchmarks.report import Report, parser_of
from cli.embedded.broker import free_port

GOAL = 0.5
MIB = 1024**2
CONFIGURATION = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; default_type application/octet-stream;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--nginx", default="nginx", help="the program; Debian's nginx-light has it")
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    result = Report(f"A file of {given.megabytes} MiB, curl on loopback", ["", "MiB/s", "of nginx"])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        url = stack.enter_context(empty_database("sqlite", home))
        storage = home / "storage"
        limit = {"RATE_LIMIT_PER_MINUTE": "0", "STORAGE_URL": storage.as_uri()}
        api = stack.enter_context(running_api(home, url, **limit))
        key = _upload(api.url, storage, given.megabytes)
        # nginx runs as a user of its own where it is started by root.
        for path in (home, storage, *key.parents):
            if path.is_relative_to(home):
                path.chmod(0o755)
        server = stack.enter_context(_nginx(given.nginx, home, storage))
        asked = {
            "nginx": (f"{server}/{key.relative_to(storage)}", ()),
            "the API": (f"{api.url}/v1/files/{key.name}/content", ()),
            "nginx, range": (f"{server}/{key.relative_to(storage)}", ("-r", "1-")),
            "the API, range": (f"{api.url}/v1/files/{key.name}/content", ("-r", "1-")),
        }
        best = dict.fromkeys(asked, float("inf"))
        for _ in range(given.rounds):
            for name, (address, options) in asked.items():
                best[name] = min(best[name], _seconds(address, *options))
    for name, seconds in best.items():
        reference = best["nginx, range" if "range" in name else "nginx"]
        result.rows.append([name, given.megabytes / seconds, reference / seconds])
    for name in ("the API", "the API, range"):
        share = float(next(row[2] for row in result.rows if row[0] == name) or 0)
        result.goals.append((f"{name}: {share:.2f} of nginx, at least {GOAL}", share >= GOAL))
    result.show(as_json=given.json)


def _upload(url: str, storage: Path, megabytes: int) -> Path:
    """Upload a file that is not trained on; where it is stored."""
    content = bytes(MIB) * megabytes
    sent = httpx.post(
        f"{url}/v1/files",
        data={"purpose": "user_data"},
        files={"file": ("weights.bin", content)},
        timeout=300,
    ).raise_for_status()
    return next(storage.rglob(sent.json()["id"]))


@contextmanager
def _nginx(program: str, home: Path, root: Path) -> Iterator[str]:
    port = free_port()
    folder = home / "nginx"
    folder.mkdir()
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, root=root))
    with subprocess.Popen([program, "-c", str(configuration), "-p", str(folder)]) as server:
        try:
            time.sleep(1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _seconds(url: str, *options: str) -> float:
    command = ["curl", "-sf", "-o", "/dev/null", "-w", "%{time_total}", *options, url]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


if __name__ == "__main__":
    main()
