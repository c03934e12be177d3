"""An S3 server for tests, from the PyPI wheel: SeaweedFS on loopback, in a folder of its own."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

WEED = Path(sys.executable).with_name("weed")
START_POLLS = 600
POLL_SECONDS = 0.1
ACCESS_KEY = "tuneyard-test"
SECRET_KEY = "tuneyard-test-secret"
LOG = "s3.log"
PARTS = ("master", "volume", "filer", "s3")
SOCKETS = Path("/tmp")
"""Where the server makes a socket for each part, whatever TMPDIR says."""


@dataclass(slots=True)
class S3Server:
    """A running server. A bucket comes into being when something is put into it."""

    endpoint: str
    command: list[str]
    folder: Path
    process: subprocess.Popen[bytes]
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY

    def stop(self) -> None:
        """End the server at once; what it has stored stays in its folder."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it again after a stop, at the same address; returns when it answers."""
        self.process = _launch(self.command, self.folder)
        _wait_until_ready(self)


def is_s3_installed() -> bool:
    """Whether this environment has the server's binary."""
    return WEED.is_file()


@contextmanager
def start_s3(folder: Path) -> Iterator[S3Server]:
    """Start a server with its data in `folder`; yields it when it answers."""
    ports = _free_ports(2 * len(PARTS))
    http, grpc = ports[: len(PARTS)], ports[len(PARTS) :]
    command = _command(folder, http, grpc)
    endpoint = f"http://127.0.0.1:{http[PARTS.index('s3')]}"
    server = S3Server(endpoint, command, folder, _launch(command, folder))
    try:
        _wait_until_ready(server)
        yield server
    finally:
        server.stop()
        for part, port in zip(PARTS, grpc, strict=True):
            (SOCKETS / f"seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)


def _launch(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / LOG).open("ab") as output:
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)


def _command(folder: Path, http: list[int], grpc: list[int]) -> list[str]:
    config = folder / "s3.json"
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    identity = {"name": "test", "credentials": credentials, "actions": ["Admin"]}
    config.write_text(json.dumps({"identities": [identity]}))
    data = folder / "data"
    data.mkdir()
    return [
        str(WEED),
        "server",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=128",
        "-volume.max=32",
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-s3",
        f"-s3.config={config}",
        f"-s3.localSocket={folder / 's3.sock'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"-{part}.port={port}" for part, port in zip(PARTS, http, strict=True)),
        *(f"-{part}.port.grpc={port}" for part, port in zip(PARTS, grpc, strict=True)),
    ]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_until_ready(server: S3Server) -> None:
    for _ in range(START_POLLS):
        if _answers(server.endpoint):
            return
        try:
            server.process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
    log = server.folder / LOG
    raise RuntimeError(f"The S3 server did not start:\n{log.read_text(errors='replace')[-4000:]}")


def _answers(endpoint: str) -> bool:
    try:
        with urlopen(f"{endpoint}/healthz", timeout=1) as response:
            return bool(response.status == 200)
    except HTTPError as error:
        error.close()
        return False
    except (URLError, OSError):
        return False
