"""Clocks: where the time comes from, given as an argument to whoever needs it."""

from __future__ import annotations

import time


class WallClock:
    """The machine's own clock."""

    def __call__(self) -> int:
        """Return ms since 1970 UTC."""
        return time.time_ns() // 1_000_000


class SetClock:
    """A clock that stands until it is set: for recordings played in lock-step, and tests.

    Parameters
    ----------
    now_ms : int
        Where it stands first, ms since 1970 UTC.
    """

    def __init__(self, now_ms: int = 0) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        """Return ms since 1970 UTC."""
        return self.now_ms

    def set(self, now_ms: int) -> None:
        """Move the clock; it never goes back."""
        self.now_ms = max(self.now_ms, now_ms)
