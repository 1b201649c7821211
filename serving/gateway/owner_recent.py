"""The newest decisions, each in a line, so that a page can list them without reading the log."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from schemas.checks import PPB
from schemas.decisions import DecisionMade
from schemas.outcomes import OutcomeClosed

KEPT = 5_000
"""Decisions that are kept; older ones are in the log, and `pho receipt` tells of them."""


@dataclass(slots=True)
class Line:
    """One decision as a list shows it: no more of a person than its receipt has."""

    number: int
    """Counts the decisions from 1, in the order of the log."""
    decision_id: str
    """Its id; opens its receipt."""
    loop_id: str
    """Its loop."""
    kiosk_id: str | None
    """The kiosk, in the greeting loop."""
    decided_at_ms: int
    """When, log time, ms."""
    action_id: str
    """The greeting."""
    text: str
    """Its words."""
    control: bool
    """True: the control share."""
    mode: str
    """Who was in charge; ``fallback``: nobody."""
    propensity: float
    """The probability it was chosen with, 0..1."""
    happiness_before: float | None
    """0..1."""
    happiness_after: float | None = None
    """0..1."""
    reward: float | None = None
    """What it earned; None: nothing, or not yet."""
    result: str = "open"
    """``open``, or what became of it."""


@dataclass(slots=True)
class Recent:
    """The newest decisions, oldest first."""

    _lines: deque[Line] = field(default_factory=deque)
    _by_id: dict[str, Line] = field(default_factory=dict)
    _count: int = 0

    def decided(self, decision: DecisionMade) -> None:
        """Take a decision; the first of its id."""
        choice = decision.choice
        self._count += 1
        line = Line(
            number=self._count,
            decision_id=choice.decision_id,
            loop_id=choice.loop_id,
            kiosk_id=choice.kiosk_id,
            decided_at_ms=choice.decided_at_ms,
            action_id=choice.action_id,
            text=decision.presentation.text,
            control=choice.control,
            mode=choice.mode,
            propensity=choice.propensity_ppb / PPB,
            happiness_before=choice.happiness_before,
        )
        self._lines.append(line)
        self._by_id[choice.decision_id] = line
        if len(self._lines) > KEPT:
            del self._by_id[self._lines.popleft().decision_id]

    def closed(self, outcome: OutcomeClosed) -> None:
        """Take an outcome; the first of its decision."""
        line = self._by_id.get(outcome.choice.decision_id)
        if line is None:
            return
        line.result = outcome.result
        line.happiness_after = outcome.happiness_after
        if outcome.result in ("rewarded", "defaulted"):
            line.reward = outcome.reward

    def page(self, loop_id: str, before: int | None, limit: int) -> tuple[list[Line], int | None]:
        """Return lines of a loop, newest first.

        Parameters
        ----------
        loop_id : str
            The loop.
        before : int or None
            Only decisions with a smaller number; None: from the newest.
        limit : int
            At most so many.

        Returns
        -------
        tuple of (list of Line, int or None)
            The lines, and what to give as `before` for the next ones; None: no older ones here.
        """
        found: list[Line] = []
        for line in reversed(self._lines):
            if line.loop_id == loop_id and (before is None or line.number < before):
                if len(found) == limit:
                    return found, found[-1].number
                found.append(line)
        return found, None
