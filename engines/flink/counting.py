"""What an operator on Flink counts: few calls into the JVM, since each costs a microsecond."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any

from schemas.streams import DEAD_LETTERS, LATE, UNMATCHED

FLUSH_EVERY = 64
"""Events between two reports: at a hundred events a second the metric lags half a second."""
_ASIDE = {DEAD_LETTERS: "dead_letters", LATE: "late", UNMATCHED: "unmatched"}


class Counting:
    """The counters of one operator, in the metric group ``pho``.

    Parameters
    ----------
    context : RuntimeContext
        Flink's.
    operator : str
        Name of the operator.
    """

    def __init__(self, context: Any, operator: str) -> None:
        self._group = context.get_metrics_group().add_group("pho")
        self._operator = operator
        self._counters: dict[str, Any] = {}
        self._tally: Tally[str] = Tally()
        for name in ("events", *_ASIDE.values()):
            self._counter(name)

    def event(self) -> None:
        """Count a record taken."""
        self._tally["events"] += 1
        if self._tally["events"] >= FLUSH_EVERY:
            self.flush()

    def emitted(self, stream: str) -> None:
        """Count a record given out, where it left the main way."""
        if stream in _ASIDE:
            self.count(_ASIDE[stream])

    def count(self, name: str) -> None:
        """Count something that is rare, at once."""
        self._counter(name).inc(1)

    def flush(self) -> None:
        """Report what was counted."""
        for name, number in self._tally.items():
            self._counter(name).inc(number)
        self._tally.clear()

    def _counter(self, name: str) -> Any:
        if name not in self._counters:
            self._counters[name] = self._group.counter(f"{self._operator}_{name}")
        return self._counters[name]
