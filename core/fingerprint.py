"""What tells one content from another, computed while it streams by."""

import hashlib

PART_BYTES = 8 * 1024 * 1024
"""Size of the parts that object storage gets an object in."""


class Fingerprint:
    """SHA-256 and size of what was fed; when `tagged`, what S3 calls an object of such parts."""

    def __init__(self, *, tagged: bool) -> None:
        self._tagged = tagged
        self._sha256 = hashlib.sha256()
        self._part = hashlib.md5(usedforsecurity=False)
        self._part_size = 0
        self._parts = b""
        self.size = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._sha256.update(chunk)
        self.size += len(chunk)
        if self._tagged:
            self._feed_parts(chunk)

    @property
    def sha256(self) -> str:
        """As hex."""
        return self._sha256.hexdigest()

    def finish(self) -> str | None:
        """The tag of the whole: the MD5 of the MD5s of all parts, and how many there are."""
        if not self._tagged:
            return None
        if self._part_size or not self._parts:
            self._end_part()
        count = len(self._parts) // self._part.digest_size
        return f"{hashlib.md5(self._parts, usedforsecurity=False).hexdigest()}-{count}"

    def _feed_parts(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            now = rest[: PART_BYTES - self._part_size]
            self._part.update(now)
            self._part_size += len(now)
            rest = rest[len(now) :]
            if self._part_size == PART_BYTES:
                self._end_part()

    def _end_part(self) -> None:
        self._parts += self._part.digest()
        self._part = hashlib.md5(usedforsecurity=False)
        self._part_size = 0
