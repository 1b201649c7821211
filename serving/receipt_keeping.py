"""What a process that tells many receipts keeps of a folder's log, so that each costs alike.

Kept are the place of every record by its id (16 bytes each), and every so many outcomes what was
known then. So a receipt reads the rows of its decision, and learns again from the stage before it:
a few dozen outcomes, however long the log is. Nothing is stored: a new process reads anew, and so
does this one when somebody was forgotten, or when the folder holds another log.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row
from engines.rebuilding import Learned, Relearning
from pipelines.learners import Learning
from policies.base import Policy
from schemas.decisions import Choice
from schemas.errors import RecordError
from schemas.outcomes import OutcomeClosed
from schemas.streams import SIDE_STREAMS
from serving.receipt import Receipt
from serving.receipt_lookup import Taught, decisions_holding, holds_outcome, version_of
from serving.receipt_reading import SOURCES, receipt_of

BATCH = 256
"""Records taken at once: whoever waits for a receipt waits for no more than one batch."""
STRIDE = 32
"""Outcomes between two stages at first: to learn so many again takes some 5 ms."""
STAGES_BYTES = 32_000_000
"""What the stages of a loop may hold; beyond it every second one is let go."""
_INDEXED = (*SOURCES, *SIDE_STREAMS, "loops", "outcomes")
_READ = (*_INDEXED, "erasures")
_Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Stage:
    """What was known after a row of the learning log."""

    position: int
    """The row's place; 0: before the first."""
    state: Learning | None
    """What was known; None: nothing yet."""
    newest: dict[str, _Version]
    """The last epoch and version of every policy there ever was."""
    size: int
    """Bytes of what the policies know."""


_NO_VERSION: _Version = (-1, -1)


@dataclass(slots=True)
class _Course:
    """The learning log of one loop, as far as it was walked."""

    walk: Relearning = field(default_factory=Relearning)
    """Where the walk has come to."""
    stages: list[_Stage] = field(default_factory=lambda: [_Stage(0, None, {}, 0)])
    """The stages, in the order of the log."""
    repeats: set[int] = field(default_factory=set)
    """Places of outcomes that were learned before: they teach nothing."""
    newest: dict[str, _Version] = field(default_factory=dict)
    """As in the newest stage, but of now."""
    stride: int = field(default_factory=lambda: STRIDE)
    """Rows between two stages."""
    since: int = 0
    """Rows after the newest stage."""

    def take(self, row: Row) -> str | None:
        """Walk over the next row; return the decision that it closes, if it closes one."""
        step = self.walk.take(row)
        if step is None:
            return None
        if step.repeat:
            self.repeats.add(row.position)
        for learner in step.state.learners if step.state is not None else ():
            self.newest[learner.policy_id] = (learner.epoch, learner.version)
        self.since += 1
        if self.since >= self.stride and step.state is not None:
            self._note(row.position, step.state)
        try:
            value = step.record.value
        except RecordError:
            return None
        return value.choice.decision_id if isinstance(value, OutcomeClosed) else None

    def _note(self, position: int, state: Learning) -> None:
        size = sum(
            len(each.data) for one in state.learners for each in one.policy.snapshot_arrays()
        )
        self.stages.append(_Stage(position, state, dict(self.newest), size))
        self.since = 0
        if sum(stage.size for stage in self.stages) > STAGES_BYTES and len(self.stages) > 2:
            self.stages = self.stages[::2]
            self.stride *= 2

    def before_version(self, policy_id: str, wanted: _Version) -> _Stage:
        """Return the last stage at which a policy had not come to a version yet.

        Epochs count how often a policy was started anew, and versions the records that changed it
        since: along the log the pair never goes back.
        """
        place = bisect_left(
            self.stages, wanted, key=lambda stage: stage.newest.get(policy_id, _NO_VERSION)
        )
        return self.stages[max(0, place - 1)]

    def before_row(self, position: int) -> _Stage:
        """Return the last stage before a row."""
        place = bisect_left(self.stages, position, key=lambda stage: stage.position)
        return self.stages[max(0, place - 1)]


class ReceiptKeeping:
    """Tells receipts of one folder; one thread at a time.

    `catch_up` takes what is new, `read` does so first by itself.
    """

    def __init__(self) -> None:
        self._begin(0)

    def _begin(self, born: int) -> None:
        self._born = born  # whoever was forgotten up to here was gone before this began
        self._last: Row | None = None
        self._hashes, self._positions = array("q"), array("q")
        self.courses: dict[str, _Course] = {}

    def read(self, log: EmbeddedLog, decision_id: str) -> Receipt:
        """Read one decision's story; words and numbers are those of `read_receipt`.

        Parameters
        ----------
        log : EmbeddedLog
            The log of always the same folder.
        decision_id : str
            The decision, or its visit.

        Raises
        ------
        NoSuchDecision
            When the log has none of that id, or none yet.
        LogUnavailable
            When the log cannot be read.
        """
        while True:
            while self.catch_up(log):
                pass
            receipt = receipt_of(_Kept(self, log), decision_id)
            # Somebody may have been forgotten meanwhile: then this is half of before, half of now.
            if not log.read(self._through, 1, ("erasures",)):
                return receipt

    def catch_up(self, log: EmbeddedLog) -> bool:
        """Take the next batch of what is new.

        Returns
        -------
        bool
            Whether there may be more.
        """
        if self._last is None:
            self._begin(log.end().position)
        elif log.read(self._last.position - 1, 1) != [self._last]:
            self._begin(log.end().position)  # another log, or one in which this row went
        rows = log.read(self._through, BATCH, _READ)
        for row in rows:
            if row.stream == "erasures" and row.position > self._born:
                self._begin(log.end().position)
                return True
            self._take(row)
        return len(rows) == BATCH

    @property
    def _through(self) -> int:
        return self._last.position if self._last is not None else 0

    def _take(self, row: Row) -> None:
        name: str | None = row.key
        if row.stream == "outcomes":
            # First: it may fail for now, such as a policy behind a service, and is tried again.
            name = self.courses.setdefault(row.key, _Course()).take(row)
        if name is not None:
            self._hashes.append(hash(name))
            self._positions.append(row.position)
        self._last = row

    def places(self, name: str) -> list[int]:
        """Return where records of an id may stand, rising; those of another may be among them."""
        hashes = np.frombuffer(self._hashes, np.int64)
        found = np.flatnonzero(hashes == hash(name))
        places: list[int] = np.frombuffer(self._positions, np.int64)[found].tolist()
        return places


class _Kept:
    """A log as a receipt asks it, with what is kept of it.

    Parameters
    ----------
    keeping : ReceiptKeeping
        It has caught up.
    log : EmbeddedLog
        The log.
    """

    def __init__(self, keeping: ReceiptKeeping, log: EmbeddedLog) -> None:
        self._keeping = keeping
        self._log = log
        self.name = log.name

    def rows(self, *streams: str, key: str) -> Iterator[Row]:
        """Return the records of some streams that have a key, in the log's order."""
        return (row for row in self._rows(key) if row.stream in streams and row.key == key)

    def decisions_with(self, text: str) -> Iterator[Row]:
        """Return the decisions whose bytes hold a text."""
        return decisions_holding(self._log, text)

    def outcomes_of(self, loop_id: str, decision_id: str) -> Iterator[Row]:
        """Return the rows of a loop's learning log that may be a decision's outcome, in order."""
        rows = self._rows(decision_id)
        return (row for row in rows if row.stream == "outcomes" and row.key == loop_id)

    def _rows(self, name: str) -> Iterator[Row]:
        for position in self._keeping.places(name):
            for row in self._log.read(position - 1, 1):
                if row.position == position:
                    yield row

    def learned(
        self, choice: Choice, *, chooser: bool, outcome: bool
    ) -> tuple[Policy | None, Taught | None]:
        """Walk the learning log of a choice's loop, from the stages before what is wanted."""
        course = self._keeping.courses.get(choice.loop_id)
        if course is None:
            return None, None
        policy = self._chooser(course, choice) if chooser else None
        return policy, self._outcome(course, choice) if outcome else None

    def _chooser(self, course: _Course, choice: Choice) -> Policy | None:
        wanted = (choice.epoch, choice.version)
        stage = course.before_version(choice.policy_id, wanted)
        if course.newest.get(choice.policy_id, _NO_VERSION) < wanted:
            return None
        for step in self._steps(course, choice.loop_id, stage):
            policy = version_of(step, choice)
            learner = step.state.learner(choice.policy_id) if step.state is not None else None
            if policy is not None or (learner and (learner.epoch, learner.version) > wanted):
                return policy
        return None

    def _outcome(self, course: _Course, choice: Choice) -> Taught | None:
        of = (
            row.position
            for row in self.outcomes_of(choice.loop_id, choice.decision_id)
            if row.position not in course.repeats and holds_outcome(row.value, choice.decision_id)
        )
        place = next(of, None)
        if place is None:
            return None
        stage = course.before_row(place)
        state = stage.state
        for step in self._steps(course, choice.loop_id, stage):
            if step.record.offset == place:
                return Taught(state, step)
            state = step.state
        return None

    def _steps(self, course: _Course, loop_id: str, stage: _Stage) -> Iterator[Learned]:
        walk, after = Relearning(stage.state), stage.position
        while rows := self._log.read(after, STRIDE, ("outcomes",), loop_id):
            for row in rows:
                step = walk.take(row) if row.position not in course.repeats else None
                if step is not None:
                    yield step
            after = rows[-1].position
