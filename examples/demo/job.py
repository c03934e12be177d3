"""One fine-tuning job over HTTP: create it, follow it live, cancel it, take its weights home.

What OpenAI's API has goes through the stock `openai` client; live events and files are ours.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai

from examples.demo.failure import DemoFailure
from examples.demo.service import api_key, http_client

ENDED = ("succeeded", "failed", "cancelled")
RECONNECTS = 5
CANCEL_SECONDS = 20


class DemoJob:
    """The job of this demo on the service at `url`."""

    def __init__(self, url: str):
        self._openai = openai.OpenAI(base_url=f"{url}/v1", api_key=api_key())
        self._http = http_client(url)
        self.id = ""
        self.file_id = ""

    def create(self, file: Path, *, model: str, extra: dict[str, Any]) -> None:
        """Upload the file and create the job; `extra` is what OpenAI's API does not know."""
        try:
            self.file_id = self._openai.files.create(file=file, purpose="fine-tune").id
            job = self._openai.fine_tuning.jobs.create(
                model=model, training_file=self.file_id, suffix="demo", extra_body=extra
            )
        except openai.OpenAIError as error:
            raise DemoFailure(f"The service refused the job: {_words(error)}") from error
        self.id = job.id

    def events(self) -> Iterator[dict[str, Any]]:
        """All events of the job, live, each once, until it has ended."""
        last, tries = "", 0
        while tries <= RECONNECTS:
            try:
                for number, event in self._stream(last):
                    last, tries = number, 0
                    yield event
            except httpx.HTTPError:
                pass  # It resumes after the last event that came.
            if self._status() in ENDED:
                return
            tries += 1
            time.sleep(1)
        raise DemoFailure("The service is gone while the job was running.")

    def check_succeeded(self) -> None:
        """DemoFailure in the service's words if the job did not succeed."""
        job = self._openai.fine_tuning.jobs.retrieve(self.id)
        if job.status == "cancelled":
            raise DemoFailure("Somebody cancelled the job.")
        if job.status != "succeeded":
            reason = job.error.message if job.error else "no reason was given"
            raise DemoFailure(f"The job failed: {reason}")

    def download(self, home: Path) -> tuple[Path, int, int]:
        """Fetch the weights of the newest checkpoint: their folder, how many files, their bytes.

        Each file is verified by its SHA-256 before it gets its name.
        """
        try:
            pages = self._openai.fine_tuning.jobs.checkpoints.list(self.id, limit=1)
            if not pages.data:
                raise DemoFailure("The job left no checkpoint.")
            checkpoint = pages.data[0].model_dump()
            weights = [file for file in checkpoint["files"] if file["part"] == "weights"]
            for file in weights:
                self._fetch(checkpoint["step_number"], file, home / self.id)
        except (openai.OpenAIError, httpx.HTTPError) as error:
            raise DemoFailure(f"The checkpoint could not be downloaded: {_words(error)}") from error
        return home / self.id, len(weights), sum(file["size_bytes"] for file in weights)

    def cancel(self) -> None:
        """Cancel the job if it has begun and not ended, and wait a moment until it is."""
        if not self.id:
            return
        try:
            if self._status() not in ENDED:
                self._openai.fine_tuning.jobs.cancel(self.id)
            deadline = time.monotonic() + CANCEL_SECONDS
            while self._status() not in ENDED and time.monotonic() < deadline:
                time.sleep(0.5)
        except DemoFailure:
            return  # The service is gone, or the job has just ended.
        except openai.OpenAIError:
            return

    def _stream(self, last: str) -> Iterator[tuple[str, dict[str, Any]]]:
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
        path = f"/v1/fine_tuning/jobs/{self.id}/events"
        with self._http.stream("GET", path, headers=headers) as response:
            response.raise_for_status()
            number = ""
            for line in response.iter_lines():
                name, _, value = line.partition(":")
                if name == "id":
                    number = value.strip()
                elif name == "data":
                    yield number, json.loads(value)

    def _fetch(self, step: int, file: dict[str, Any], folder: Path) -> None:
        path = f"/v1/fine_tuning/jobs/{self.id}/checkpoints/{step}/files/{file['path']}"
        target = folder / file["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.partial")
        sha256 = hashlib.sha256()
        with self._http.stream("GET", path) as response, partial.open("wb") as copy:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                sha256.update(chunk)
                copy.write(chunk)
        if sha256.hexdigest() != file["sha256"]:
            raise DemoFailure(f"{file['path']} arrived damaged; its SHA-256 is not the one stored.")
        partial.replace(target)

    def _status(self) -> str:
        try:
            return str(self._openai.fine_tuning.jobs.retrieve(self.id).status)
        except openai.OpenAIError as error:
            raise DemoFailure(f"The service is gone: {_words(error)}") from error


def _words(error: Exception) -> str:
    """The service's own sentence, without the status and the JSON around it."""
    body = getattr(error, "body", None)
    return str(body["message"]) if isinstance(body, dict) and "message" in body else str(error)
