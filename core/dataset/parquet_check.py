"""Validates one Parquet file: the work of a process of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.dataset.checking import RowChecker
from core.dataset.reading import Source, json_rows
from core.dataset.report import CompressionName, FileReport
from core.dataset.shapes import Problem
from core.errors import InvalidFile
from core.isolated import Exhausted, Limits, run_isolated

LIMITS = Limits(seconds=900, memory_bytes=3 * 1024**3)


def check_parquet(
    path: Path, compression: CompressionName | None = None, limits: Limits = LIMITS
) -> FileReport:
    """The report of a file, read in another process."""
    try:
        request = {"path": str(path), "compression": compression}
        answer = run_isolated("core.dataset.parquet_check", request, limits, reads=[path])
    except Exhausted as error:
        checker = RowChecker()
        reason = f"the Parquet file takes too much {error.what} to read"
        checker.refuse(0, Problem(None, f"{reason}; write it with smaller row groups, or as JSONL"))
        return checker.report(format_name="parquet", compression=compression)
    return FileReport.from_dict(answer)


def work(request: dict[str, Any], chunks: Iterator[bytes]) -> dict[str, Any]:
    """The report of the file that the request names."""
    checker = RowChecker()
    source = Source(Path(request["path"]), "parquet", request["compression"])
    try:
        for number, text in json_rows(source):
            checker.read(number, text)
    except InvalidFile as error:
        checker.refuse(0, Problem(None, error.message))
    report = checker.report(format_name="parquet", compression=source.compression)
    return report.to_dict()
