"""What an operator on Flink counts: few calls into the JVM, since each costs a microsecond."""

from __future__ import annotations

import time
from collections import Counter as Tally
from typing import Any

from pyflink.datastream.functions import RuntimeContext

from engines.flink.metrics import COUNTERS, GROUP
from schemas.streams import DEAD_LETTERS, LATE, UNMATCHED

REPORT_EVERY_S = 0.5
"""Time between two reports: an alarm on no decisions must not sound on a quiet morning."""
_LOOK_EVERY = 16
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

    def __init__(self, context: RuntimeContext, operator: str) -> None:
        group = context.get_metrics_group().add_group(GROUP)
        self._counters: dict[str, Any] = {
            name.removeprefix(f"{operator}_"): group.counter(name)
            for name in COUNTERS
            if name.startswith(f"{operator}_")
        }
        self._tally: Tally[str] = Tally()
        self._reported_s = 0.0

    def event(self) -> None:
        """Count a record taken."""
        tally = self._tally
        tally["events"] += 1
        # The clock is asked for now and then only; the first records of a quiet stretch at once.
        if tally["events"] >= _LOOK_EVERY or not self._reported_s:
            self._report()

    def tick(self) -> None:
        """Report what was counted, if that is long ago."""
        if self._tally:
            self._report()

    def emitted(self, stream: str) -> None:
        """Count a record given out, where it left the main way."""
        if stream in _ASIDE:
            self.count(_ASIDE[stream])

    def count(self, name: str) -> None:
        """Count something that is rare, at once."""
        self._counters[name].inc(1)

    def _report(self) -> None:
        now_s = time.monotonic()
        if now_s - self._reported_s < REPORT_EVERY_S:
            return
        self._reported_s = now_s
        for name, number in self._tally.items():
            self._counters[name].inc(number)
        self._tally.clear()
