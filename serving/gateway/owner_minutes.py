"""The last hour, minute by minute: visits, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.outcomes import OutcomeClosed
from serving.gateway.owner_worth import smiled

MINUTE_MS = 60_000
MINUTES = 60
_KEPT = 3 * MINUTES


@dataclass(slots=True)
class Minute:
    """The visits whose greeting was decided in one minute."""

    visits: int = 0
    """Decisions."""
    smiles: int = 0
    """Smiles seen after the greeting."""
    no_smile: int = 0
    """A face was seen after the greeting, without a smile."""
    not_seen: int = 0
    """Greeted, and no usable reaction seen."""
    not_greeted: int = 0
    """Left before the greeting, or something else was shown."""
    reward: float = 0.0
    """Sum of their rewards."""
    rewards: int = 0
    """Visits with a reward."""

    @property
    def open(self) -> int:
        """Visits whose outcome is not known yet."""
        known = self.smiles + self.no_smile + self.not_seen + self.not_greeted
        return max(0, self.visits - known)


@dataclass(slots=True)
class Minutes:
    """The newest minutes of a loop."""

    _minutes: dict[int, Minute] = field(default_factory=dict)
    newest_ms: int = 0
    """The newest decision, log time, ms."""

    def decided(self, at_ms: int) -> None:
        """Count a decision."""
        self.newest_ms = max(self.newest_ms, at_ms)
        self._at(at_ms).visits += 1

    def closed(self, outcome: OutcomeClosed) -> None:
        """Count what became of a decision, in the minute it was made."""
        minute = self._at(outcome.choice.decided_at_ms)
        if outcome.result in ("rewarded", "defaulted"):
            minute.reward += outcome.reward
            minute.rewards += 1
        if outcome.result not in ("rewarded", "defaulted"):
            minute.not_greeted += 1
        elif smiled(outcome):
            minute.smiles += 1
        elif outcome.result == "rewarded":
            minute.no_smile += 1
        else:
            minute.not_seen += 1

    def hour_to(self, end_ms: int) -> list[tuple[int, Minute]]:
        """Return the sixty minutes that end with the one of `end_ms`, oldest first.

        Returns
        -------
        list of (int, Minute)
            Each with its beginning, ms; minutes without a visit are empty.
        """
        last = end_ms // MINUTE_MS
        numbers = range(last - MINUTES + 1, last + 1)
        return [(each * MINUTE_MS, self._minutes.get(each) or Minute()) for each in numbers]

    def _at(self, at_ms: int) -> Minute:
        number = at_ms // MINUTE_MS
        if number not in self._minutes:
            self._minutes[number] = Minute()
            # Wherever many kiosks write, decisions come a little out of order: not the oldest by
            # turn, but the oldest by time go.
            if len(self._minutes) > 2 * _KEPT:
                for old in sorted(self._minutes)[:-_KEPT]:
                    del self._minutes[old]
        return self._minutes.get(number) or Minute()
