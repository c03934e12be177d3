"""The metrics of a job as a file to download, as OpenAI's `result_files` name it."""

import csv
import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from core.files import NewFile, add_file
from core.ids import new_id
from core.models import Job
from core.storage import Storage

PURPOSE = "fine-tune-results"
FILENAME = "step_metrics.csv"
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def store_results(storage: Storage, columns: Mapping[str, list[Any]]) -> NewFile | None:
    """Store a table of metrics, a line for each step; None where nothing was logged."""
    if not columns.get("step"):
        return None
    file_id = new_id("file-")
    stored = storage.put_stream(f"files/{file_id}", [metrics_csv(columns)])
    return NewFile(file_id, FILENAME, PURPOSE, stored, None)


def metrics_csv(columns: Mapping[str, list[Any]]) -> bytes:
    """Columns of equal length as CSV; what was not logged at a step is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_as_data, columns))
    writer.writerows(map(_as_data, row) for row in zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def add_results(session: Session, job: Job, results: NewFile, *, now: datetime) -> None:
    """Name a stored table on its job, in the transaction that ends it."""
    file = add_file(session, results, now=now, project_id=job.project_id)
    session.execute(update(Job).where(Job.id == job.id).values(result_files=[file.id]))


def _as_data(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula, nor for the end of a row."""
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r", " ").replace("\n", " ")
    return f"'{text}" if cell.startswith(FORMULA) else text
