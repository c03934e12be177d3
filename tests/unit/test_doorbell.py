"""A broker that anybody can reach is told of when the service starts."""

import pytest

from core.doorbell import Doorbell, is_open


@pytest.mark.parametrize(
    ("url", "is_so"),
    [
        ("redis://valkey:6379/0", True),
        ("rediss://broker.example/0", True),
        ("redis://10.0.0.5/0", True),
        ("redis://user@10.0.0.5/0", True),
        ("redis://:password@10.0.0.5/0", False),
        ("redis://127.0.0.1:6379/0", False),
        ("redis://[::1]/0", False),
        ("redis://localhost/0", False),
        ("unix:///run/valkey.sock", False),
        ("redis+socket:///run/valkey.sock", False),
    ],
)
def test_an_open_broker_is_one_of_another_machine_without_a_password(url: str, is_so: bool) -> None:
    assert is_open(url) is is_so


def test_it_is_told_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    Doorbell("redis://broker.invalid/0").close()
    Doorbell("redis://:ty-canary@broker.invalid/0").close()

    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "broker.invalid asks for no password" in told
