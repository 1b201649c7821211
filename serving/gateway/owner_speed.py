"""How fast it is: from picture to greeting, from reaction to policy, by the log's own times."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

import numpy as np

from schemas.frames import FrameAnalyzed, FrameCaptured
from schemas.outcomes import OutcomeClosed, PolicySnapshot

NEWEST = 1_000
"""Durations a percentile rests on: the newest."""
_WAITING_MAX = 10_000
EDGES_MS = (0, 50, 100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 5_000, 10_000, 60_000)
"""Where the bars of the picture begin, ms; the last one is open."""


@dataclass(slots=True)
class Durations:
    """The newest durations of one kind."""

    count: int = 0
    """All that were ever taken."""
    _newest: deque[float] = field(default_factory=lambda: deque(maxlen=NEWEST))

    def take(self, duration_ms: float) -> None:
        """Take one, ms; clocks that disagree may make it negative: then it is 0."""
        self.count += 1
        self._newest.append(max(0.0, duration_ms))

    def percentile_ms(self, percent: float) -> float | None:
        """Return a percentile of the newest, ms; None: there is none."""
        return float(np.percentile(self._newest, percent)) if self._newest else None

    def bars(self) -> list[int]:
        """Return how many of the newest lie between each of `EDGES_MS` and the next."""
        edges = [*EDGES_MS, float("inf")]
        counts: list[int] = np.histogram(list(self._newest), edges)[0].tolist()
        return counts


class _Waiting(OrderedDict[str, int]):
    """Beginnings whose end did not come yet; those that never end are let go, the oldest first."""

    def begin(self, name: str, at_ms: int) -> None:
        if len(self) >= _WAITING_MAX:
            self.popitem(last=False)
        self.setdefault(name, at_ms)


@dataclass(slots=True)
class Speed:
    """What takes how long; feed it the records with their log times."""

    to_greeting: Durations = field(default_factory=Durations)
    """From the deciding picture in the log to its greeting in the log."""
    to_showing: Durations = field(default_factory=Durations)
    """From the shutter to the greeting on the screen, by the kiosk's corrected clock."""
    analysis: Durations = field(default_factory=Durations)
    """One look of the analyser."""
    to_policy: Durations = field(default_factory=Durations)
    """From the last answered picture of a reaction to a policy that learned from it."""
    _captured: _Waiting = field(default_factory=_Waiting)
    _logged: _Waiting = field(default_factory=_Waiting)
    _reacted: _Waiting = field(default_factory=_Waiting)
    _closed: deque[tuple[str, int, int]] = field(default_factory=lambda: deque(maxlen=NEWEST))

    def frame(self, frame: FrameCaptured, log_time_ms: int) -> None:
        """Take a picture."""
        if frame.phase == "pre":
            self._logged.begin(frame.decision_id, log_time_ms)
            self._captured.begin(frame.decision_id, frame.captured_at_ms)

    def analysed(self, answer: FrameAnalyzed, log_time_ms: int) -> None:
        """Take an answer."""
        if answer.status in ("ok", "no_face") and answer.milliseconds > 0.0:
            self.analysis.take(answer.milliseconds)
        if answer.phase == "post":
            self._reacted.pop(answer.decision_id, None)
            self._reacted.begin(answer.decision_id, log_time_ms)

    def greeted(self, decision_id: str, log_time_ms: int) -> None:
        """Take a greeting."""
        began_ms = self._logged.pop(decision_id, None)
        if began_ms is not None:
            self.to_greeting.take(log_time_ms - began_ms)

    def shown(self, decision_id: str, shown_at_ms: int) -> None:
        """Take a showing."""
        captured_ms = self._captured.pop(decision_id, None)
        if captured_ms is not None:
            self.to_showing.take(shown_at_ms - captured_ms)

    def closed(self, outcome: OutcomeClosed, log_time_ms: int) -> None:
        """Take an outcome; where a policy may learn of it, wait for that."""
        choice = outcome.choice
        reacted_ms = self._reacted.pop(choice.decision_id, None)
        if outcome.learnable and reacted_ms is not None:
            self._closed.append((choice.loop_id, log_time_ms, reacted_ms))

    def learned(self, snapshot: PolicySnapshot, log_time_ms: int) -> None:
        """Take a policy; it holds every outcome of its loop up to a log time.

        Only its last outcome is measured: the policies between may be gone, since `policies` keeps
        the newest of each.
        """
        through_ms = snapshot.learned_through_log_time_ms
        if snapshot.role != "serving" or through_ms is None:
            return
        waiting = list(self._closed)
        self._closed.clear()
        for loop_id, closed_ms, reacted_ms in waiting:
            if loop_id != snapshot.loop_id or closed_ms > through_ms:
                self._closed.append((loop_id, closed_ms, reacted_ms))
            elif closed_ms == through_ms:
                self.to_policy.take(log_time_ms - reacted_ms)
