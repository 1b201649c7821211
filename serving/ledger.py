"""The ledger: every decision has exactly one outcome, or is still open."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from connectors.logs import Log
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.errors import RecordError
from schemas.outcomes import OutcomeClosed
from schemas.streams import STREAMS


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
class _Book:
    deadlines: dict[str, int] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    # Result of the first outcome, which holds, and the hash of its bytes.
    results: dict[str, tuple[str, int]] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)
    deferred: set[str] = field(default_factory=set)
    shown: dict[str, int] = field(default_factory=dict)


def read_ledger(log: Log) -> Ledger:
    """Count what the log says of every decision.

    Raises
    ------
    LogUnavailable
        When the log cannot be read.
    """
    book = _Book()
    refused = 0
    # Asked first: whatever was due by now has been closed by the time its outcome is looked for.
    complete_ms = log.complete_through_ms()
    for row in log.scan("decisions", "impressions", "outcomes", "analyses"):
        try:
            value = decode(row.value)
        except RecordError:
            continue  # its dead letter is counted
        if not isinstance(value, STREAMS[row.stream].records):
            continue
        if row.stream == "decisions":
            _decision(book, value, row.log_time_ms)
        elif row.stream == "impressions":
            # By its own time, not by its turn: two brokers' clocks may put it before its decision.
            first_ms = book.shown.setdefault(value.decision_id, row.log_time_ms)
            book.shown[value.decision_id] = min(first_ms, row.log_time_ms)
        elif row.stream == "analyses":
            refused += value.status == "refused"
        elif isinstance(value, OutcomeClosed):
            _closed(book, value, hash(row.value))
    _open_at_impressions(book)
    counts = log.counts()
    open_ids = book.deadlines.keys() - book.results.keys()
    problems = tuple(_problems(book, complete_ms, open_ids))
    results = Counter(result for result, _ in book.results.values())
    return Ledger(
        decisions=len(book.deadlines),
        rewarded=results["rewarded"],
        defaulted=results["defaulted"],
        dropped=results["dropped"],
        not_activated=results["not_activated"],
        open=len(open_ids),
        late=counts["late"],
        unmatched=counts["unmatched"],
        dead_letters=counts["dead-letters"],
        refused=refused,
        balanced=not problems,
        problems=problems,
    )


def _decision(book: _Book, decision: DecisionMade, log_time_ms: int) -> None:
    choice, rules = decision.choice, decision.rules
    # Rule 7: so old a decision is no decision; the first of several in the log holds.
    if log_time_ms > choice.decided_at_ms + rules.dedup_horizon_ms:
        return
    if choice.decision_id in book.deadlines:
        return
    window_ms = rules.reward_window_ms + rules.grace_ms
    book.windows[choice.decision_id] = window_ms
    book.deadlines[choice.decision_id] = log_time_ms + window_ms
    if rules.activation == "at_impression":
        book.deferred.add(choice.decision_id)


def _open_at_impressions(book: _Book) -> None:
    """Move the deadline of what was shown in time: its window opened then."""
    for decision_id in book.deferred:
        shown_ms = book.shown.get(decision_id)
        if shown_ms is not None and shown_ms <= book.deadlines[decision_id]:
            book.deadlines[decision_id] = shown_ms + book.windows[decision_id]


def _closed(book: _Book, outcome: OutcomeClosed, bytes_hash: int) -> None:
    decision_id = outcome.choice.decision_id
    result, known_hash = book.results.setdefault(decision_id, (outcome.result, bytes_hash))
    # Where delivery is at least once the very same outcome may stand there twice.
    if known_hash != bytes_hash:
        book.again[decision_id] = f"{result}, then {outcome.result}"


def _problems(book: _Book, complete_ms: int, open_ids: set[str]) -> list[str]:
    problems = []
    for decision_id in book.results:
        if decision_id in book.again:
            problems.append(f"decision {decision_id} has outcomes: {book.again[decision_id]}")
        if decision_id not in book.deadlines:
            problems.append(f"an outcome has no decision: {decision_id}")
    problems += [
        f"decision {decision_id} is overdue by {complete_ms - book.deadlines[decision_id]} ms; "
        "is the job running?"
        for decision_id in sorted(open_ids)
        if book.deadlines[decision_id] < complete_ms
    ]
    return problems
