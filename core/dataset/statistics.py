"""What is counted over all rows of a file in memory that does not depend on their number."""

import math
from collections import Counter

MAX_HASHES = 100_000
BUCKETS_PER_E = 100
"""Lengths within 1 % of each other are counted together."""
QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}


class DuplicateCounter:
    """Counts rows that repeat an earlier one: exactly up to MAX_HASHES different rows.

    Beyond that only rows whose hash ends in so many zeros are looked at, and the rest is inferred.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        """How often each hash was seen."""
        self._mask = 0

    def add(self, row_hash: int) -> None:
        """Count one row by its hash."""
        if row_hash & self._mask:
            return
        self._counts[row_hash] = self._counts.get(row_hash, 0) + 1
        if len(self._counts) > MAX_HASHES:
            self._narrow()

    @property
    def is_estimated(self) -> bool:
        """Whether not every row was looked at."""
        return self._mask != 0

    def count(self, rows: int) -> int:
        """How many of this many rows repeat an earlier one."""
        seen = sum(self._counts.values())
        return round(rows * (seen - len(self._counts)) / seen) if seen else 0

    def _narrow(self) -> None:
        while len(self._counts) > MAX_HASHES // 2:
            self._mask = self._mask << 1 | 1
            kept = self._counts.items()
            self._counts = {key: count for key, count in kept if not key & self._mask}


class Quantiles:
    """Quantiles of lengths, within 1 %."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._least = self._most = 0
        self._is_empty = True

    def add(self, length: int) -> None:
        """Count one length."""
        if self._is_empty or length < self._least:
            self._least = length
        if self._is_empty or length > self._most:
            self._most = length
        self._is_empty = False
        # Short lengths are counted each by itself.
        bucket = length if length < BUCKETS_PER_E else int(math.log(length) * BUCKETS_PER_E)
        self._counts[bucket] += 1

    def to_dict(self) -> dict[str, int]:
        """Smallest, largest, and what lies between; empty without rows."""
        if self._is_empty:
            return {}
        between = {name: self._at(share) for name, share in QUANTILES.items()}
        return {"min": self._least, **between, "max": self._most}

    def _at(self, share: float) -> int:
        wanted = share * self._counts.total()
        passed = 0
        for bucket in sorted(self._counts):
            passed += self._counts[bucket]
            if passed >= wanted:
                break
        value = bucket if bucket < BUCKETS_PER_E else math.exp((bucket + 0.5) / BUCKETS_PER_E)
        return min(self._most, max(self._least, round(value)))
