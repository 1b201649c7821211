"""How far a page's clock is off the gateway's, from what it says it sent when."""

from __future__ import annotations

from collections import deque

_LAST = 8
_JUMP_MS = 2_000


class PageClock:
    """The skew of one page's clock.

    A message sent at s by the page's clock and received at r by ours gives r - s: the offset plus
    the way here. Of the last eight the least is taken, less half of the shortest round trip that
    the page measured (Cristian, 1989: the error is at most the other half).
    """

    def __init__(self) -> None:
        self._ways: deque[int] = deque(maxlen=_LAST)
        self._round_trips: deque[float] = deque(maxlen=_LAST)

    def measure(
        self, sent_at_ms: int, received_at_ms: int, round_trip_ms: float | None = None
    ) -> None:
        """Take in one message.

        Parameters
        ----------
        sent_at_ms : int
            When it was sent, by the page's clock, ms since 1970 UTC.
        received_at_ms : int
            When it came, by ours.
        round_trip_ms : float, optional
            How long an earlier answer of ours took there and back.
        """
        way = received_at_ms - sent_at_ms
        if self._ways and abs(way - self._ways[-1]) > _JUMP_MS:
            # Somebody set one of the clocks, or a laptop slept: what was measured is void.
            self._ways.clear()
        self._ways.append(way)
        if round_trip_ms is not None:
            self._round_trips.append(round_trip_ms)

    @property
    def offset_ms(self) -> int:
        """What to add to the page's time to get ours, ms; 0 before the first measurement."""
        if not self._ways:
            return 0
        return min(self._ways) - round(min(self._round_trips, default=0.0) / 2)
