"""Files that come in parts: stored one by one, put together when the upload is completed."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core.db import Transactions, after_commit, database_now, project_of
from core.errors import InvalidArgument, InvalidState, TooLarge, UploadNotFound
from core.files import MAX_NAME_LENGTH, add_file, check_purpose, store_file
from core.ids import new_id
from core.models import File, Upload, UploadPart
from core.storage import Storage

KEPT = timedelta(hours=1)
"""From the creation of an upload to its completion."""
MAX_PARTS = 10_000
MAX_SENT = 3
"""How often the bytes of an upload may be stored: a part whose answer was lost is sent again."""
MAX_EXPIRED = 100


def create_upload(
    session: Session,
    *,
    filename: str,
    purpose: str,
    mime_type: str,
    size_bytes: int,
    max_bytes: int,
    expires_after_seconds: int | None,
    project_id: str | None = None,
) -> Upload:
    """Begin a file of `size_bytes`, of which the parts follow."""
    project_id = project_id or project_of(session)
    check_purpose(purpose)
    if size_bytes > max_bytes:
        raise TooLarge(f"The file is larger than this server accepts: {max_bytes:,} bytes.")
    now = database_now(session)
    upload = Upload(
        id=new_id("upload_"),
        project_id=project_id,
        filename=filename[:MAX_NAME_LENGTH],
        purpose=purpose,
        mime_type=mime_type[:MAX_NAME_LENGTH],
        size_bytes=size_bytes,
        expires_after_seconds=expires_after_seconds,
        status="pending",
        created_at=now,
        expires_at=now + KEPT,
    )
    session.add(upload)
    session.flush()
    return upload


def get_upload(
    session: Session, upload_id: str, *, project_id: str | None = None, lock: bool = False
) -> Upload:
    """The upload with this id, or UploadNotFound."""
    project_id = project_id or project_of(session)
    query = select(Upload).where(Upload.id == upload_id, Upload.project_id == project_id)
    upload = session.scalar(query.with_for_update() if lock else query)
    if upload is None:
        raise UploadNotFound(f"No such upload: {upload_id}", param="upload_id")
    return upload


def add_part(
    database: Transactions,
    storage: Storage,
    upload_id: str,
    chunks: Iterable[bytes],
    *,
    size: int,
) -> UploadPart:
    """Store one part of `size` bytes; the order is that of the completion."""
    with database.read() as session:
        upload = get_upload(session, upload_id)
        _check_pending(upload, database_now(session))
        _check_room(session, upload, size)
    part_id = new_id("part_")
    stored = storage.put_stream(_key(upload_id, part_id), chunks)
    with database.write() as session:
        upload = get_upload(session, upload_id, lock=True)
        now = database_now(session)
        try:
            _check_pending(upload, now)
            _check_room(session, upload, stored.size)
        except (InvalidState, InvalidArgument):
            storage.delete(stored.key)
            raise
        part = UploadPart(id=part_id, upload_id=upload_id, size_bytes=stored.size, created_at=now)
        session.add(part)
    return part


def complete_upload(
    database: Transactions,
    storage: Storage,
    upload_id: str,
    *,
    part_ids: Sequence[str],
    md5: str | None,
) -> tuple[Upload, File]:
    """Make the file of these parts, in this order; asked for again, it is the same file."""
    with database.read() as session:
        upload = get_upload(session, upload_id)
        done = _completed(session, upload, part_ids)
        if done is not None:
            return done
        _check_pending(upload, database_now(session))
        _check_parts(session, upload, part_ids)
    chunks = _joined(storage, upload_id, part_ids, md5)
    new = store_file(storage, chunks, purpose=upload.purpose, filename=upload.filename)
    with database.write() as session:
        upload = get_upload(session, upload_id, lock=True)
        if upload.status != "pending":
            # Somebody else ended it while the parts were put together.
            storage.delete(new.stored.key)
            done = _completed(session, upload, part_ids)
            if done is not None:
                return done
        now = database_now(session)
        _check_pending(upload, now)
        file = add_file(
            session,
            new,
            now=now,
            expires_after_seconds=upload.expires_after_seconds,
        )
        upload.file_id, upload.part_ids = file.id, list(part_ids)
        _end(session, storage, upload, "completed")
    return upload, file


def cancel_upload(session: Session, storage: Storage, upload: Upload) -> None:
    """Forget the parts. Cancelling twice is harmless."""
    if upload.status == "cancelled":
        return
    _check_pending(upload, database_now(session))
    _end(session, storage, upload, "cancelled")


def expire_uploads(session: Session, storage: Storage, *, now: datetime) -> int:
    """End the uploads that nobody completed in time; returns how many."""
    query = (
        select(Upload)
        .where(Upload.status == "pending", Upload.expires_at <= now)
        .limit(MAX_EXPIRED)
        .with_for_update(skip_locked=True)
    )
    expired = list(session.scalars(query))
    for upload in expired:
        _end(session, storage, upload, "expired")
    return len(expired)


def _check_pending(upload: Upload, now: datetime) -> None:
    if upload.status == "pending" and upload.expires_at > now:
        return
    status = "expired" if upload.status == "pending" else upload.status
    raise InvalidState(f"Upload {upload.id} is {status}; create a new one.", param="upload_id")


def _check_room(session: Session, upload: Upload, size: int) -> None:
    if size > upload.size_bytes:
        raise InvalidArgument(
            f"The part has {size:,} bytes, but the upload was created for {upload.size_bytes:,}.",
            param="data",
        )
    count, total = session.execute(
        select(func.count(), func.coalesce(func.sum(UploadPart.size_bytes), 0)).where(
            UploadPart.upload_id == upload.id
        )
    ).one()
    if count >= MAX_PARTS or total + size > MAX_SENT * upload.size_bytes:
        raise InvalidArgument(
            f"The upload has {count:,} parts of {total:,} bytes already; complete or cancel it.",
            param="data",
        )


def _check_parts(session: Session, upload: Upload, part_ids: Sequence[str]) -> None:
    query = select(UploadPart).where(UploadPart.upload_id == upload.id)
    sizes = {part.id: part.size_bytes for part in session.scalars(query)}
    for place, part_id in enumerate(part_ids):
        if part_id not in sizes:
            raise InvalidArgument(
                f"Upload {upload.id} has no part {part_id[:100]!r}.", param=f"part_ids.{place}"
            )
    if len(set(part_ids)) != len(part_ids):
        raise InvalidArgument("part_ids names a part twice.", param="part_ids")
    total = sum(sizes[part_id] for part_id in part_ids)
    if total != upload.size_bytes:
        raise InvalidArgument(
            f"The parts have {total:,} bytes together, but the upload was created for "
            f"{upload.size_bytes:,}.",
            param="part_ids",
        )


def _completed(
    session: Session, upload: Upload, part_ids: Sequence[str]
) -> tuple[Upload, File] | None:
    """The upload and its file, if it was completed from these parts before."""
    if upload.status != "completed" or upload.part_ids != list(part_ids):
        return None
    file = session.get(File, upload.file_id)
    return (upload, file) if file is not None else None


def _joined(
    storage: Storage, upload_id: str, part_ids: Sequence[str], md5: str | None
) -> Iterator[bytes]:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in _from_thread(_parts(storage, upload_id, part_ids)):
        digest.update(chunk)
        yield chunk
    if md5 is not None and digest.hexdigest() != md5.lower():
        raise InvalidArgument(
            f"The parts have the MD5 {digest.hexdigest()}, not {md5}.", param="md5"
        )


def _parts(storage: Storage, upload_id: str, part_ids: Sequence[str]) -> Iterator[bytes]:
    for part_id in part_ids:
        yield from storage.read(_key(upload_id, part_id))


def _from_thread(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same, read by another thread: a storage that is writing cannot read in its own."""
    with ThreadPoolExecutor(1) as reader:
        while (chunk := reader.submit(next, chunks, None).result()) is not None:
            yield chunk


def _end(session: Session, storage: Storage, upload: Upload, status: str) -> None:
    upload.status = status
    session.execute(delete(UploadPart).where(UploadPart.upload_id == upload.id))
    after_commit(session, lambda: storage.delete_prefix(f"uploads/{upload.id}"))


def _key(upload_id: str, part_id: str) -> str:
    return f"uploads/{upload_id}/{part_id}"
