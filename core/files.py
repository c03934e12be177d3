"""Files of examples: validated while they stream into storage, immutable afterwards."""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, or_, select, tuple_
from sqlalchemy.orm import Session

from core.dataset import FileReport, FormatName
from core.dataset.parquet_check import check_parquet
from core.dataset.upload_check import UploadCheck
from core.db import after_commit, project_of
from core.errors import FileNotFound, InvalidArgument, InvalidFile, InvalidState
from core.ids import new_id
from core.models import File, Job
from core.states import TRANSITIONS
from core.storage import Storage, StoredObject

logger = logging.getLogger(__name__)

PURPOSES = ("fine-tune", "assistants", "batch", "vision", "user_data", "evals")
MAX_NAME_LENGTH = 255
MAX_DELETED = 100
"""Expired files that are deleted in one transaction."""
_ONE_FILE = select(File).where(
    File.id == bindparam("file"), File.project_id == bindparam("project")
)
"""Built once: that costs more than to ask it."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """An upload whose bytes are stored, and of which no row tells yet."""

    id: str
    filename: str
    purpose: str
    stored: StoredObject
    report: FileReport | None


def store_file(
    storage: Storage,
    chunks: Iterable[bytes],
    *,
    purpose: str,
    filename: str = "",
    format_name: FormatName | None = None,
) -> NewFile:
    """Stream an upload into storage; another process validates it meanwhile, if it is for training.

    InvalidFile names the first bad lines; nothing is left behind then. The format is told by the
    content and the name unless it is given.
    """
    check_purpose(purpose)
    file_id = new_id("file-")
    key = f"files/{file_id}"
    if purpose != "fine-tune":
        return NewFile(file_id, filename, purpose, storage.put_stream(key, chunks), None)
    with UploadCheck(filename, format_name=format_name) as check:
        stored = storage.put_stream(key, _fed(chunks, check))
        report = _report(storage, stored, check)
    if report.errors:
        storage.delete(key)
        raise invalid_file(report)
    return NewFile(file_id, filename, purpose, stored, report)


def add_file(
    session: Session,
    new: NewFile,
    *,
    now: datetime,
    expires_after_seconds: int | None = None,
    project_id: str | None = None,
) -> File:
    """Record a stored upload."""
    project_id = project_id or project_of(session)
    expires_at = None
    if expires_after_seconds is not None:
        expires_at = now + timedelta(seconds=expires_after_seconds)
    name = new.filename or "file"
    file = File(
        id=new.id,
        project_id=project_id,
        filename=name[:MAX_NAME_LENGTH].replace("\0", "\N{REPLACEMENT CHARACTER}"),
        purpose=new.purpose,
        size_bytes=new.stored.size,
        sha256=new.stored.sha256,
        storage_key=new.stored.key,
        report=new.report.to_dict() if new.report else None,
        created_at=now,
        expires_at=expires_at,
    )
    session.add(file)
    session.flush()
    return file


def get_file(
    session: Session,
    file_id: str,
    *,
    project_id: str | None = None,
    param: str = "file_id",
) -> File:
    """The file with this id, or FileNotFound."""
    project_id = project_id or project_of(session)
    file = session.scalar(_ONE_FILE, {"file": file_id, "project": project_id})
    if file is None:
        raise FileNotFound(f"No such file: {file_id}", param=param)
    return file


def list_files(
    session: Session,
    *,
    after: str | None = None,
    limit: int = 10_000,
    newest_first: bool = True,
    purpose: str | None = None,
    project_id: str | None = None,
) -> list[File]:
    """Files by age, those that follow `after` in that order."""
    project_id = project_id or project_of(session)
    key = tuple_(File.created_at, File.id)
    query = select(File).where(File.project_id == project_id)
    if purpose is not None:
        query = query.where(File.purpose == purpose)
    if after is not None:
        last = get_file(session, after, project_id=project_id, param="after")
        mark = (last.created_at, last.id)
        query = query.where(key < mark if newest_first else key > mark)
    order = (File.created_at.desc(), File.id.desc()) if newest_first else (File.created_at, File.id)
    return list(session.scalars(query.order_by(*order).limit(limit)))


def delete_file(session: Session, file: File, storage: Storage) -> None:
    """Forget a file, and delete its bytes once that is committed. A job in progress holds it."""
    user = session.scalar(_jobs_in_progress().where(_needs(file.id)).limit(1))
    if user is not None:
        raise InvalidState(f"Job {user} still needs this file.", param="file_id")
    session.delete(file)
    after_commit(session, lambda: storage.delete(file.storage_key))


def delete_expired_files(session: Session, storage: Storage, *, now: datetime) -> int:
    """Delete files whose time is over and that no job in progress needs; returns how many."""
    query = (
        select(File)
        .where(File.expires_at <= now, ~_jobs_in_progress().where(_needs(File.id)).exists())
        .order_by(File.expires_at)
        .limit(MAX_DELETED)
    )
    expired = list(session.scalars(query))
    for file in expired:
        delete_file(session, file, storage)
    return len(expired)


def _jobs_in_progress() -> Select[str]:
    return select(Job.id).where(
        Job.status.not_in([status for status, edges in TRANSITIONS.items() if not edges])
    )


def _needs(file_id: Any) -> ColumnElement[bool]:
    return or_(Job.training_file == file_id, Job.validation_file == file_id)


def check_purpose(purpose: str) -> None:
    """InvalidArgument for what no file may be uploaded for."""
    if purpose not in PURPOSES:
        raise InvalidArgument(
            f"purpose must be one of {', '.join(PURPOSES)}; got {purpose[:100]!r}.", param="purpose"
        )


def invalid_file(report: FileReport) -> InvalidFile:
    """The error of a file with bad lines, naming the first of them."""
    shown = "; ".join(str(error) for error in report.errors[:3])
    more = report.error_count - min(3, len(report.errors))
    rest = f" (and {more} more errors)" if more > 0 else ""
    return InvalidFile(
        f"{shown}{rest}",
        param="file",
        errors=[error.to_dict() for error in report.errors],
        error_count=report.error_count,
    )


def _fed(chunks: Iterable[bytes], check: UploadCheck) -> Iterator[bytes]:
    for chunk in chunks:
        check.feed(chunk)
        yield chunk


def _report(storage: Storage, stored: StoredObject, check: UploadCheck) -> FileReport:
    """The report of a stored file; of one that can only be read as a whole, wherever it is."""
    try:
        checked = check.checked()
        if not checked.needs_file:
            return checked.report
        with local_copy(storage, stored.key, sha256=stored.sha256) as path:
            return check_parquet(path, checked.report.compression)
    except BaseException:
        storage.delete(stored.key)
        raise


@contextmanager
def local_copy(storage: Storage, key: str, *, sha256: str) -> Iterator[Path]:
    """A stored file as a file of this machine, for as long as it is looked at."""
    path = storage.local_path(key)
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="tuneyard-") as folder:
        copy = Path(folder) / "file"
        storage.fetch(key, copy, sha256=sha256)
        yield copy
