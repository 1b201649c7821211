"""What `learn` knew after each record of a loop's own log: any version, built again as a prefix.

Pure stepping: rows of `outcomes` in, what was learned out. Replay, rollback, receipts and erasure
all stand on this one walk, so that they cannot disagree with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from connectors.logs import Row
from engines.one_key import Memory, OneKey, RawRecord, part_named
from pipelines.learners import Learning, snapshot_of
from pipelines.operators import Emit, Shared
from schemas.errors import PolicyError, RecordError
from schemas.operations import Tick
from schemas.outcomes import OutcomeClosed, PolicySnapshot
from schemas.streams import DEAD_LETTERS

_NOTHING: Shared = {}


@dataclass(frozen=True, slots=True)
class Learned:
    """One record of the learning log, and what is known after it."""

    record: RawRecord
    """The record; `value` reads it."""
    state: Learning | None
    """What is known after it; None: nothing yet, no configuration stood before it."""
    emits: tuple[Emit, ...]
    """What `learn` gave out for it: snapshots (as functions), dead letters."""
    repeat: bool = False
    """True: an outcome that was learned before; it changed nothing."""

    @property
    def refused(self) -> bool:
        """Whether it became a dead letter."""
        return any(emit.stream == DEAD_LETTERS for emit in self.emits)


class Relearning:
    """Steps `learn` over the rows of one loop's learning log, one at a time, as they come.

    Parameters
    ----------
    start : Learning, optional
        What was known before the first row; by default nothing.
    """

    def __init__(self, start: Learning | None = None) -> None:
        self._steps = OneKey(part_named("learn"), ("outcomes",))
        self._memory = Memory(state=start)
        self._seen: set[str] = set()

    def take(self, row: Row) -> Learned | None:
        """Take the next row; None: a Tick, which teaches nothing."""
        record = RawRecord(
            row.stream, row.key, row.log_time_ms, row.value, row.position, row.partition
        )
        try:
            value = record.value
        except RecordError:
            value = None  # the step makes a dead letter of it
        if isinstance(value, Tick):
            return None
        decision_id = value.choice.decision_id if isinstance(value, OutcomeClosed) else None
        if decision_id in self._seen:
            return Learned(record, self._memory.state, (), repeat=True)
        emits = tuple(self._steps.take(self._memory, record, _NOTHING))
        step = Learned(record, self._memory.state, emits)
        # One put aside before its loop was configured may be appended again, and is learned.
        if decision_id is not None and not step.refused:
            self._seen.add(decision_id)
        return step


def learned(
    rows: Iterable[Row],
    until: Callable[[Learned], bool] | None = None,
    start: Learning | None = None,
) -> Iterator[Learned]:
    """Step `learn` over a loop's learning log, and yield what is known after each record.

    Parameters
    ----------
    rows : iterable of Row
        The loop's rows of `outcomes` in their order, from the first on:
        ``log.scan("outcomes", key=loop_id)``. Ticks are passed over; a repeat of an outcome (Kafka
        holds it at least once) changes nothing, as on every engine.
    until : callable, optional
        Asked after each record; the record it says True for is the last one.
    start : Learning, optional
        What was known before the first row; by default nothing.

    Yields
    ------
    Learned
        For each row that is no Tick, in order; unreadable ones too, refused.
    """
    relearning = Relearning(start)
    for row in rows:
        step = relearning.take(row)
        if step is None:
            continue
        yield step
        if until is not None and until(step):
            return


def learning(rows: Iterable[Row]) -> Learning:
    """Return what is known after all of a loop's rows.

    Raises
    ------
    PolicyError
        When they configure no loop.
    """
    state = None
    for step in learned(rows):
        state = step.state
    if state is None:
        problem = "the learning log configures no loop"
        raise PolicyError(problem, "Name its folder with --data, or its topics with --log")
    return state


def version_of(
    rows: Iterable[Row], policy_id: str, epoch: int, version: int
) -> tuple[Learning, PolicySnapshot]:
    """Build one version of a policy again, as a prefix of the learning log.

    Parameters
    ----------
    rows : iterable of Row
        As in `learned`.
    policy_id : str
        The policy.
    epoch, version : int
        Its epoch, and the version in it.

    Returns
    -------
    Learning
        What was known then, the other policies too.
    PolicySnapshot
        The version, with its checksum.

    Raises
    ------
    PolicyError
        When the log never held that version, or its beginning is gone.
    """
    for step in learned(rows):
        learner = step.state.learner(policy_id) if step.state is not None else None
        if step.state is None or learner is None:
            continue
        if (learner.epoch, learner.version) == (epoch, version):
            return step.state, snapshot_of(step.state.config, learner)
    problem = f"policy {policy_id!r} has no epoch {epoch} version {version} in this log"
    raise PolicyError(problem, "pho policy ls names the newest; versions count from 0")
