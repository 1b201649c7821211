"""How a receipt finds its records in a log: by reading it again, or from what a process keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from connectors.logs import Row
from engines.rebuilding import Learned, learned
from pipelines.learners import Learning
from policies.base import Policy
from schemas.codec import decode
from schemas.decisions import Choice
from schemas.errors import RecordError
from schemas.outcomes import OutcomeClosed
from serving.replay.verdicts import History


@dataclass(frozen=True, slots=True)
class Taught:
    """An outcome in the walk of its loop's learning log."""

    before: Learning | None
    """What was known before it; None: nothing yet."""
    step: Learned
    """The outcome, and what is known after it."""


class Lookup(Protocol):
    """What a receipt asks of a log."""

    @property
    def name(self) -> str:
        """Where the log is."""
        ...

    def rows(self, *streams: str, key: str) -> Iterable[Row]:
        """Return the records of some streams that have a key, in the log's order."""
        ...

    def decisions_with(self, text: str) -> Iterable[Row]:
        """Return the decisions whose bytes hold a text, and perhaps others."""
        ...

    def outcomes_of(self, loop_id: str, decision_id: str) -> Iterable[Row]:
        """Return the rows of a loop's learning log that may be a decision's outcome, in order."""
        ...

    def learned(
        self, choice: Choice, *, chooser: bool, outcome: bool
    ) -> tuple[Policy | None, Taught | None]:
        """Walk the learning log of a choice's loop.

        Parameters
        ----------
        choice : Choice
            The choice.
        chooser : bool
            Whether the policy is wanted at the version that chose.
        outcome : bool
            Whether the walk's step over the choice's outcome is wanted.

        Returns
        -------
        Policy or None
            The policy that chose; None: not wanted, or this log never held that version.
        Taught or None
            The outcome's step; None: not wanted, or it is not there.
        """
        ...


class Scanned:
    """Finds by reading the log again: once for the records, once for what was learned.

    Parameters
    ----------
    history : History
        The log, or an archive of it.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self.name = history.name

    def rows(self, *streams: str, key: str) -> Iterator[Row]:
        """Return the records of some streams that have a key, in the log's order."""
        return self._history.scan(*streams, key=key)

    def decisions_with(self, text: str) -> Iterator[Row]:
        """Return the decisions whose bytes hold a text."""
        return decisions_holding(self._history, text)

    def outcomes_of(self, loop_id: str, decision_id: str) -> Iterator[Row]:
        """Return the rows of a loop's learning log whose bytes hold a decision's id, in order."""
        data = decision_id.encode()
        return (row for row in self._history.scan("outcomes", key=loop_id) if data in row.value)

    def learned(
        self, choice: Choice, *, chooser: bool, outcome: bool
    ) -> tuple[Policy | None, Taught | None]:
        """Walk the learning log of a choice's loop, from its beginning."""
        policy: Policy | None = None
        taught: Taught | None = None
        state: Learning | None = None
        for step in learned(self._history.scan("outcomes", key=choice.loop_id)):
            if chooser and policy is None:
                policy = version_of(step, choice)
            if outcome and taught is None and is_outcome_of(step, choice.decision_id):
                taught = Taught(state, step)
            if (policy is not None or not chooser) and (taught is not None or not outcome):
                break
            state = step.state
        return policy, taught


def decisions_holding(history: History, text: str) -> Iterator[Row]:
    """Return the decisions of a log whose bytes hold a text: to decode all takes 40 us each."""
    data = text.encode()
    return (row for row in history.scan("decisions") if data in row.value)


def version_of(step: Learned, choice: Choice) -> Policy | None:
    """Return the policy that made a choice, where a step of the walk has it at that version."""
    learner = step.state.learner(choice.policy_id) if step.state is not None else None
    if learner is None or (learner.epoch, learner.version) != (choice.epoch, choice.version):
        return None
    return learner.policy


def is_outcome_of(step: Learned, decision_id: str) -> bool:
    """Whether a step of the walk is a decision's outcome, and no repeat of it."""
    return not step.repeat and holds_outcome(step.record.raw, decision_id)


def holds_outcome(raw: bytes, decision_id: str) -> bool:
    """Whether bytes are a decision's outcome."""
    if decision_id.encode() not in raw:
        return False
    try:
        value = decode(raw)
    except RecordError:
        return False
    return isinstance(value, OutcomeClosed) and value.choice.decision_id == decision_id
