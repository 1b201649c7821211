"""Timers in log time for a million keys: far ones in buckets, near ones in a heap."""

from __future__ import annotations

import heapq
from collections.abc import Callable

_BUCKET_BITS = 8  # 256 ms; a bucket holds bare keys, 8 bytes each, where a heap entry costs 96

_NEVER_MS = 2**62


class Timers:
    """One timer per key; what was replaced is skipped when its turn comes.

    Parameters
    ----------
    wake_of : callable
        Returns the time a key is to be woken at now, ms, or None: the only truth.
    """

    def __init__(self, wake_of: Callable[[str], int | None]) -> None:
        self._wake_of = wake_of
        self._buckets: dict[int, list[str]] = {}
        self._bucket_heap: list[int] = []
        self._near: list[tuple[int, str]] = []
        self._near_through = -1
        self.earliest_ms = _NEVER_MS
        """No timer fires below this log time, ms: most records need not ask any further."""

    def set(self, key: str, wake_at_ms: int) -> None:
        """Note that a key is to be woken."""
        if wake_at_ms < self.earliest_ms:
            self.earliest_ms = wake_at_ms
        bucket = wake_at_ms >> _BUCKET_BITS
        if bucket <= self._near_through:
            heapq.heappush(self._near, (wake_at_ms, key))
            return
        keys = self._buckets.get(bucket)
        if keys is None:
            self._buckets[bucket] = [key]
            heapq.heappush(self._bucket_heap, bucket)
        else:
            keys.append(key)

    def pop_due(self, before_ms: int) -> tuple[int, str] | None:
        """Return the next (time, key) below a log time, in the order (time, key); None: no more.

        The order is part of the contract: outcomes closed by timers stand in the log in it.
        """
        self._bring_near(before_ms)
        near = self._near
        while near and near[0][0] < before_ms:
            wake_at_ms, key = heapq.heappop(near)
            if self._wake_of(key) == wake_at_ms:
                return wake_at_ms, key
        ahead = near[0][0] if near else _NEVER_MS
        if self._bucket_heap:
            ahead = min(ahead, self._bucket_heap[0] << _BUCKET_BITS)
        self.earliest_ms = ahead
        return None

    def _bring_near(self, before_ms: int) -> None:
        while self._bucket_heap and (self._bucket_heap[0] << _BUCKET_BITS) < before_ms:
            bucket = heapq.heappop(self._bucket_heap)
            self._near_through = bucket
            for key in set(self._buckets.pop(bucket)):
                wake_at_ms = self._wake_of(key)
                if wake_at_ms is not None and wake_at_ms >> _BUCKET_BITS == bucket:
                    heapq.heappush(self._near, (wake_at_ms, key))
