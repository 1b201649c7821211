"""The order in which records may be judged: that of their decisions, waiting for open ones.

Smiles close early and defaults at the end of the window, so that what has closed at any moment is
happier than what was decided: 0.283 against a true 0.202 after 60 s in one run.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.outcomes import OutcomeClosed


@dataclass(slots=True)
class InOrder:
    """Gives outcomes out in the order of their decisions, where the log of decisions is at hand."""

    _expected: deque[tuple[str, int]] = field(default_factory=deque)
    _known: set[str] = field(default_factory=set)
    _closed: dict[str, OutcomeClosed] = field(default_factory=dict)
    _given: set[str] = field(default_factory=set)
    unreadable: int = 0
    """Outcomes that could not be read; whose they are cannot be known."""
    lost: int = 0
    """Decisions given up, since their outcome could not be read."""

    def decided(self, decision_id: str, deadline_ms: int) -> None:
        """Take a decision; of several of one id the first counts.

        Parameters
        ----------
        decision_id : str
            The decision.
        deadline_ms : int
            When it must have closed at the latest, log time, ms.
        """
        if decision_id not in self._known:
            self._known.add(decision_id)
            self._expected.append((decision_id, deadline_ms))

    def closed(self, outcome: OutcomeClosed) -> None:
        """Take an outcome; of several of one decision the first counts."""
        decision_id = outcome.choice.decision_id
        if decision_id not in self._given:
            self._closed.setdefault(decision_id, outcome)

    def ready(self) -> Iterator[OutcomeClosed]:
        """Yield what may be judged now: all up to the first decision that is still open."""
        while self._expected and self._expected[0][0] in self._closed:
            decision_id, _ = self._expected.popleft()
            self._given.add(decision_id)
            yield self._closed.pop(decision_id)

    def give_up(self, complete_ms: int) -> None:
        """Wait no more for decisions whose outcome stands in the log and cannot be read.

        Only where no more are overdue than outcomes were unreadable: of a job that is behind, the
        late closers are missing, and going on without them would lean towards the early ones.

        Parameters
        ----------
        complete_ms : int
            Whatever had to happen before it has happened, log time, ms.
        """
        overdue = {
            decision_id
            for decision_id, deadline_ms in self._expected
            if deadline_ms < complete_ms and decision_id not in self._closed
        }
        if len(overdue) <= self.unreadable - self.lost:
            self.lost += len(overdue)
            self._expected = deque(pair for pair in self._expected if pair[0] not in overdue)

    @property
    def open(self) -> int:
        """Decisions without an outcome yet."""
        return sum(decision_id not in self._closed for decision_id, _ in self._expected)

    @property
    def behind(self) -> int:
        """Outcomes that wait for a decision that was made before theirs and is still open."""
        return sum(decision_id in self._closed for decision_id, _ in self._expected)

    @property
    def orphans(self) -> int:
        """Outcomes whose decision is not in the log."""
        return len(self._closed) - self.behind


@dataclass(slots=True)
class AfterWaiting:
    """Gives outcomes out in the order of their decisions, where only outcomes are at hand.

    An outcome waits until every decision made before its own must have closed, by log time.
    """

    wait_ms: int
    """Longest time from a decision to the close of an earlier one, log time, ms."""
    _heap: list[tuple[int, str, OutcomeClosed]] = field(default_factory=list)
    _through: tuple[int, str] = (-1, "")
    _ids: set[str] = field(default_factory=set)
    overtaken: int = 0
    """Outcomes that came after their turn: more than `wait_ms` after their decision."""

    def closed(self, outcome: OutcomeClosed) -> None:
        """Take an outcome; a repeat of one that waits changes nothing."""
        choice = outcome.choice
        if choice.decision_id in self._ids:
            return
        if (choice.decided_at_ms, choice.decision_id) <= self._through:
            self.overtaken += 1
            return
        self._ids.add(choice.decision_id)
        heapq.heappush(self._heap, (choice.decided_at_ms, choice.decision_id, outcome))

    def ready(self, log_time_ms: int) -> Iterator[OutcomeClosed]:
        """Yield what may be judged, now that log time has come so far."""
        while self._heap and self._heap[0][0] + self.wait_ms < log_time_ms:
            decided_ms, decision_id, outcome = heapq.heappop(self._heap)
            self._through = decided_ms, decision_id
            self._ids.discard(decision_id)
            yield outcome
