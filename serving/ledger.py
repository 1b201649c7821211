"""The ledger: every decision has exactly one outcome, or is still open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from connectors.logs import Log
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.errors import RecordError
from schemas.outcomes import OutcomeClosed
from schemas.streams import STREAMS

BOOKED = ("decisions", "impressions", "outcomes", "analyses")
"""The streams a ledger is made of."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """decisions = rewarded + defaulted + dropped + not_activated + open."""

    decisions: int
    """Decisions, each id once."""
    rewarded: int
    """Closed with an observed reward."""
    defaulted: int
    """Closed with the default reward."""
    dropped: int
    """Closed without a reward: fallbacks, another action shown."""
    not_activated: int
    """Never shown."""
    open: int
    """Without an outcome yet; counted, not subtracted."""
    late: int
    """Records that came after their window closed."""
    unmatched: int
    """Records whose decision never came."""
    dead_letters: int
    """Records that could not be handled."""
    refused: int
    """Frames not analysed, since no notice was shown."""
    balanced: bool
    """Whether it adds up."""
    problems: tuple[str, ...] = field(default=())
    """Where it does not, for a person to read."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


@dataclass(slots=True)
class _Window:
    """A decision without an outcome yet."""

    deadline_ms: int
    """When it closes at the latest, if it is not shown, log time."""
    length_ms: int
    """Window and grace."""
    deferred: bool
    """True: the window opens when it is shown."""


@dataclass(slots=True)
class LedgerBook:
    """A ledger that is kept while the log grows; of what has closed it keeps one entry."""

    refused: int = 0
    """Frames not analysed, since no notice was shown."""
    decisions: int = 0
    """Decisions, each id once."""
    results: Counter[str] = field(default_factory=Counter)
    """Outcomes, each decision once, by result."""
    _open: dict[str, _Window] = field(default_factory=dict)
    _shown: dict[str, int] = field(default_factory=dict)
    # Result of the first outcome, which holds, and the hash of its bytes.
    _closed: dict[str, tuple[str, int]] = field(default_factory=dict)
    # Outcomes whose decision did not come yet, with the log time of each.
    _orphans: dict[str, int] = field(default_factory=dict)
    _again: dict[str, str] = field(default_factory=dict)

    def take(self, stream: str, value: Any, log_time_ms: int, raw: bytes) -> bool:
        """Take a record of one of the `BOOKED` streams.

        Parameters
        ----------
        stream : str
            Where it stands.
        value : any of our records
            What it says; of another kind than the stream carries, it changes nothing.
        log_time_ms : int
            Its log time, ms.
        raw : bytes
            Its bytes: the very same outcome may stand there twice.

        Returns
        -------
        bool
            True: the first of its decision, or the first outcome of one.
        """
        if not isinstance(value, STREAMS[stream].records):
            return False
        if stream == "decisions":
            return self._decision(value, log_time_ms)
        if stream == "impressions":
            decision_id = value.decision_id
            if decision_id not in self._closed or decision_id in self._orphans:
                # By its own time, not by its turn: two brokers' clocks may put it before its
                # decision.
                first_ms = self._shown.setdefault(decision_id, log_time_ms)
                self._shown[decision_id] = min(first_ms, log_time_ms)
        elif stream == "analyses":
            self.refused += value.status == "refused"
        elif isinstance(value, OutcomeClosed):
            return self._outcome(value, log_time_ms, hash(raw))
        return False

    def _decision(self, decision: DecisionMade, log_time_ms: int) -> bool:
        choice, rules = decision.choice, decision.rules
        decision_id = choice.decision_id
        # Rule 7: so old a decision is no decision; the first of several in the log holds.
        if log_time_ms > choice.decided_at_ms + rules.dedup_horizon_ms:
            return False
        if decision_id in self._open:
            return False
        if decision_id in self._closed:
            is_first = self._orphans.pop(decision_id, None) is not None
            self.decisions += is_first
            return is_first
        self.decisions += 1
        length_ms = rules.reward_window_ms + rules.grace_ms
        deferred = rules.activation == "at_impression"
        self._open[decision_id] = _Window(log_time_ms + length_ms, length_ms, deferred)
        return True

    def _outcome(self, outcome: OutcomeClosed, log_time_ms: int, bytes_hash: int) -> bool:
        decision_id = outcome.choice.decision_id
        known = self._closed.get(decision_id)
        if known is None:
            self._closed[decision_id] = (outcome.result, bytes_hash)
            self.results[outcome.result] += 1
            self._shown.pop(decision_id, None)
            if self._open.pop(decision_id, None) is None:
                self._orphans[decision_id] = log_time_ms
            return True
        if known[1] != bytes_hash:
            # Where delivery is at least once the very same outcome may stand there twice.
            self._again[decision_id] = f"{known[0]}, then {outcome.result}"
        return False

    def _deadline_ms(self, decision_id: str) -> int:
        """Return when a decision closes at the latest: its window opened when it was shown."""
        window = self._open[decision_id]
        shown_ms = self._shown.get(decision_id)
        if window.deferred and shown_ms is not None and shown_ms <= window.deadline_ms:
            return shown_ms + window.length_ms
        return window.deadline_ms

    def ledger(self, counts: Mapping[str, int], complete_ms: int, slack_ms: int = 0) -> Ledger:
        """Return the ledger as it stands.

        Parameters
        ----------
        counts : mapping of str to int
            Records of the side outputs.
        complete_ms : int
            Whatever had to happen before it has happened and was taken, log time, ms.
        slack_ms : int
            What is overdue by less is not told: of a log that grows, another partition may be
            a little behind, and so may the job.
        """
        problems = tuple(self._problems(complete_ms - slack_ms, complete_ms, slack_ms))
        results = self.results
        return Ledger(
            decisions=self.decisions,
            rewarded=results["rewarded"],
            defaulted=results["defaulted"],
            dropped=results["dropped"],
            not_activated=results["not_activated"],
            open=len(self._open),
            late=counts["late"],
            unmatched=counts["unmatched"],
            dead_letters=counts["dead-letters"],
            refused=self.refused,
            balanced=not problems,
            problems=problems,
        )

    def _problems(self, due_ms: int, complete_ms: int, slack_ms: int) -> list[str]:
        problems = [
            f"decision {decision_id} has outcomes: {results}"
            for decision_id, results in self._again.items()
        ]
        problems += [
            f"an outcome has no decision: {decision_id}"
            for decision_id, log_time_ms in self._orphans.items()
            if not slack_ms or log_time_ms < due_ms
        ]
        overdue = ((each, self._deadline_ms(each)) for each in sorted(self._open))
        problems += [
            f"decision {decision_id} is overdue by {complete_ms - deadline_ms} ms; "
            "is the job running?"
            for decision_id, deadline_ms in overdue
            if deadline_ms < due_ms
        ]
        return problems


def read_ledger(log: Log) -> Ledger:
    """Count what the log says of every decision.

    Raises
    ------
    LogUnavailable
        When the log cannot be read.
    """
    book = LedgerBook()
    # Asked first: whatever was due by now has been closed by the time its outcome is looked for.
    complete_ms = log.complete_through_ms()
    for row in log.scan(*BOOKED):
        try:
            value = decode(row.value)
        except RecordError:
            continue  # its dead letter is counted
        book.take(row.stream, value, row.log_time_ms, row.value)
    return book.ledger(log.counts(), complete_ms)
