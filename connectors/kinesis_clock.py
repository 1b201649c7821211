"""What time it is on Kinesis, as far as its answers tell: each has a date, cut to the second."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from connectors.clocks import WallClock
from connectors.logs import Clock

_SECOND_MS = 1_000
_FORGET_MS = 600_000


class ServerClock:
    """An estimate of a server's clock, from the date header of its answers.

    An answer that was asked for at local time a, came at b and says second s was made between the
    two: the server's clock minus ours lies between s - b and s + 999 - a. Each answer narrows that;
    after a few dozen a few ms are left. The lower end is taken, so that "everything before this
    time was read" is never said too early.

    Parameters
    ----------
    local : callable, optional
        This machine's clock, ms since 1970 UTC.
    """

    def __init__(self, local: Clock | None = None) -> None:
        self.local_ms = local or WallClock()
        self._lock = threading.Lock()
        self._low_ms: int | None = None
        self._high_ms = 0
        self._since_ms = 0

    def note(self, date: str, sent_ms: int, received_ms: int) -> None:
        """Take note of an answer's date, and when it was asked for and came, local ms."""
        try:
            said_ms = int(parsedate_to_datetime(date).timestamp()) * _SECOND_MS
        except (TypeError, ValueError):
            return  # no date: this machine's clock has to do
        low_ms, high_ms = said_ms - received_ms, said_ms + _SECOND_MS - 1 - sent_ms
        with self._lock:
            known = self._low_ms is not None and received_ms - self._since_ms < _FORGET_MS
            if known and self._low_ms is not None:
                narrowed = max(low_ms, self._low_ms), min(high_ms, self._high_ms)
                if narrowed[0] <= narrowed[1]:
                    self._low_ms, self._high_ms = narrowed
                    return
            # The first answer, or one of the clocks was set: what was known is past.
            self._low_ms, self._high_ms, self._since_ms = low_ms, high_ms, received_ms

    def note_answer(self, answer: Mapping[str, Any], sent_ms: int) -> None:
        """Take note of an answer of boto3 that came now, and was asked for at `sent_ms`."""
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self.note(headers.get("date", ""), sent_ms, self.local_ms())

    @property
    def ahead_ms(self) -> tuple[int, int]:
        """The server's clock minus this machine's: at least, and at most, ms."""
        with self._lock:
            return (0, 0) if self._low_ms is None else (self._low_ms, self._high_ms)

    def at(self, local_ms: int) -> int:
        """Return the server's time at a time of this machine's, or a little less, ms."""
        return local_ms + self.ahead_ms[0]

    def __call__(self) -> int:
        """Return the server's time now, as well as it is known, ms since 1970 UTC."""
        low_ms, high_ms = self.ahead_ms
        # In the middle, but no correction where this machine's own time is as good a guess.
        return self.local_ms() + (0 if low_ms <= 0 <= high_ms else (low_ms + high_ms) // 2)
