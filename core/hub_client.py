"""Reads small files of models from the Hugging Face Hub, for the answers of the API."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from core.egress import Egress
from core.errors import InvalidArgument, ModelNotFound, Unavailable

WAIT_SECONDS = 5.0
MAIN = "main"
MAX_INFO_BYTES = 4 * 1024**2


class HubClient:
    """The Hub that was configured. It alone gets the token: other hosts keep its large files."""

    def __init__(self, endpoint: str, token: str | None = None):
        self._endpoint = endpoint.rstrip("/")
        self._token = token
        self._egress = Egress(trusted_hosts=[urlsplit(endpoint).hostname or ""])

    @contextmanager
    def opened(self, name: str, *, seconds: float) -> Iterator["HubModel"]:
        """A model to read from, for so long. Unavailable when the Hub does not answer in time."""
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            with self._egress.client(
                seconds=WAIT_SECONDS, follow_redirects=True, headers=headers
            ) as http:
                yield HubModel(http, self._endpoint, name, until=time.monotonic() + seconds)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"The Hub does not answer for {name}: {_words(error)}.", param="model"
            ) from error


class HubModel:
    """One model of the Hub. ModelNotFound says whether it is absent or gated."""

    def __init__(self, http: httpx.Client, endpoint: str, name: str, *, until: float):
        self._http = http
        self._endpoint = endpoint
        self._name = name
        self._until = until

    def commit(self) -> str:
        """The commit that its main branch is at now."""
        content = bytearray()
        self._get(f"api/models/{self._name}/revision/{MAIN}", MAX_INFO_BYTES, content.extend)
        try:
            return str(json.loads(content)["sha"])
        except (ValueError, TypeError, KeyError) as error:
            raise Unavailable(
                f"The Hub does not answer for {self._name} as a Hub does.", param="model"
            ) from error

    def read(self, path: str, limit: int) -> bytes | None:
        """The first bytes of a file, however large it is; None where there is no such file."""
        content = bytearray()
        is_there = self._get(f"{self._name}/resolve/{MAIN}/{path}", limit, content.extend)
        return bytes(content) if is_there else None

    def save(self, path: str, target: Path, limit: int, *, revision: str) -> bool:
        """Write a file of a revision to disk; False where there is none.

        InvalidArgument for one of more than `limit` bytes.
        """
        with target.open("wb") as file:
            url = f"{self._name}/resolve/{revision}/{path}"
            is_there = self._get(url, limit + 1, file.write)
            if file.tell() > limit:
                raise InvalidArgument(
                    f"The {path} of {self._name} has more than {limit:,} bytes.", param="model"
                )
        if not is_there:
            target.unlink()
        return is_there

    def _get(self, path: str, limit: int, write: Callable[[bytes], object]) -> bool:
        headers = {"range": f"bytes=0-{limit - 1}"}
        with self._http.stream("GET", f"{self._endpoint}/{path}", headers=headers) as response:
            if response.status_code in (401, 403, 404):
                self._refuse(response)
                return False
            # An empty file has no first byte.
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return True
            response.raise_for_status()
            left = limit
            for chunk in response.iter_bytes():
                write(chunk[:left])
                left -= len(chunk)
                if left <= 0:
                    break
                if time.monotonic() > self._until:
                    raise httpx.ReadTimeout("the time for this model is over")
        return True

    def _refuse(self, response: httpx.Response) -> None:
        """Say what the Hub says, unless it is a file alone that is absent."""
        code = response.headers.get("x-error-code")
        if code == "EntryNotFound" or (code is None and response.status_code == 404):
            return
        if code == "GatedRepo":
            raise ModelNotFound(
                f"The Hub gives {self._name} only to those whom its owner has admitted; ask for "
                "it there, and set HF_TOKEN of this server to a token that was admitted.",
                param="model",
            )
        raise ModelNotFound(
            f"The Hub has no model {self._name} that this server may read.", param="model"
        )


def _words(error: httpx.HTTPError) -> str:
    """What went wrong: a status, or the kind of failure."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"status {error.response.status_code}"
    return type(error).__name__
