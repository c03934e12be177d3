"""Validates an upload while it streams by: the work of a process of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from core.dataset.checking import RowChecker
from core.dataset.report import FileReport, FormatName
from core.dataset.shapes import Problem
from core.dataset.validate import FileValidator
from core.isolated import Exhausted, Isolated, Limits

LIMITS = Limits(seconds=60, memory_bytes=1024**3, cpu_seconds=3600)


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of an upload after its last byte."""

    report: FileReport
    needs_file: bool
    """Whether it can only be read as a whole: then the report says how it is packed, no more."""


class UploadCheck(Isolated):
    """Feed it an upload in pieces of any size, then take what is known of it."""

    def __init__(
        self, filename: str, *, format_name: FormatName | None = None, limits: Limits = LIMITS
    ):
        request = {"filename": filename, "format": format_name}
        super().__init__("core.dataset.upload_check", request, limits)

    def checked(self) -> Checked:
        """The outcome. A file that takes too much to read is one with an error."""
        try:
            answer = self.finish()
        except Exhausted as error:
            checker = RowChecker()
            checker.refuse(0, Problem(None, f"the file takes too much {error.what} to read"))
            return Checked(checker.report(), needs_file=False)
        return Checked(FileReport.from_dict(answer["report"]), answer["needs_file"])


def work(request: dict[str, Any], chunks: Iterator[bytes]) -> dict[str, Any]:
    """The report of the bytes that come in."""
    validator = FileValidator(request["filename"], format_name=request["format"])
    for chunk in chunks:
        validator.feed(chunk)
    report = validator.finish()
    return {"report": report.to_dict(), "needs_file": validator.needs_file}
