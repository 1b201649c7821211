"""Forgetting on Kafka, where nothing can be taken out: said to all who read, learned again at once.

The broker's copy goes with the retention of its topics. From the erasure on, whoever reads for
people leaves them out, and the policies are in an epoch that never met them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from connectors.logs import Log, Row
from connectors.persons import AnyOf, Erased, Forgotten, Person
from connectors.pictures import PictureStore
from engines.forgetting import (
    BY,
    Asked,
    delete_pictures,
    hashes_in,
    new_epoch,
    person_in,
    requests,
)
from engines.forgetting import Forgotten as Done
from engines.relearning import Relearned, erase_directives, go_on, obeyed, relearned
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.errors import LogUnavailable, RecordError
from schemas.outcomes import OutcomeClosed, PolicyDirected

_TRIES = 20
Place = tuple[str, int]
"""A stream and a partition."""


class TopicsLog(Log, Protocol):
    """A log that can be read on from a place (`KafkaLog`)."""

    def scan_from(
        self, places: Mapping[Place, int], *streams: str, key: str | None = None
    ) -> Iterator[Row]:
        """Yield like `scan`, but of each (stream, partition) only from a position on."""
        ...


def forget_on_kafka(
    log: TopicsLog, asked: Asked, pictures: PictureStore | None
) -> tuple[Done, Person | None]:
    """Say that a person is forgotten, and let their loops start an epoch without them.

    Directives first: should it end between the two, the next run finds policies that have not
    learned from them, and says the rest.

    Returns
    -------
    Forgotten
        What was done; `records` are those that stay with the broker.
    Person or None
        Whose records they are; None: nobody's.

    Raises
    ------
    LogUnavailable
        Start again: what was said stays said.
    """
    known = hashes_in(log)
    erased = Erased(asked.key, known)
    person = person_in(log, asked, erased)
    new = requests(asked, person, log.clock(), known) if person is not None else []
    if person is None or (not new and asked.kind != "unknown"):
        return Done(asked.hash, known=False, already=asked.hash in known), person
    gone = AnyOf((person, erased))
    counts: Counter[str] = Counter()
    loops: dict[str, None] = {}
    decided: set[str] = set()
    closed: set[str] = set()
    photographs: set[str] = set()
    for row in log.scan():
        if row.stream == "erasures" or not person.speaks_of(row):
            continue
        counts[row.stream] += 1
        value = _decoded(row)
        if isinstance(value, OutcomeClosed):
            loops[value.choice.loop_id] = None
            closed.add(value.choice.decision_id)
        elif isinstance(value, DecisionMade):
            decided.add(value.choice.decision_id)
        if picture_id := getattr(value, "picture_id", None):
            photographs.add(picture_id)
    deleted = delete_pictures(pictures, photographs)
    told = [d for loop_id in loops for d in _learn_again(log, loop_id, gone, asked.hash)]
    if new:
        log.append_all([("erasures", each) for each in new])
    done = Done(
        id_hash=asked.hash,
        known=True,
        already=asked.hash in known,
        decisions=len(decided | closed),
        records=dict(sorted(counts.items())),
        pictures=deleted,
        policies=tuple(map(new_epoch, told)),
        open=len(decided - closed),
    )
    return done, person


def _learn_again(log: TopicsLog, loop_id: str, gone: Forgotten, name: str) -> list[PolicyDirected]:
    """Append the directives of a loop, until none of its outcomes came in between.

    An outcome that the job closes while we learn stands before our directive in the log, and not
    in its arrays: `learn` would lose it. So the rest is learned just before, and looked at after.
    """
    walk = _Walked(log, loop_id, gone)
    newest: dict[str, PolicyDirected] = {}
    for attempt in range(_TRIES):
        walk.catch_up()
        directives = erase_directives(walk.found, f"erase.{name}.{walk.newest}.{attempt}", BY)
        if not directives:
            return list(newest.values())
        obeyed(walk.found, directives)
        newest |= {directive.policy_id: directive for directive in directives}
        log.append_all([("outcomes", directive) for directive in directives])
        mine = {directive.directive_id for directive in directives}
        if not walk.missed(mine):
            return list(newest.values())
    problem = f"loop {loop_id!r} closes outcomes faster than they can be learned again"
    raise LogUnavailable(problem, "Forget once more at a quieter hour")


class _Walked:
    """A loop's learning log, walked with and without them, and on from there."""

    def __init__(self, log: TopicsLog, loop_id: str, gone: Forgotten) -> None:
        self._log = log
        self._gone = gone
        self._loop_id = loop_id
        self._behind: Row | None = None
        """The newest row of the walk."""
        self._seen: set[str] = set()
        """Decisions with an outcome: Kafka holds one at least once, and a repeat teaches nobody."""
        self.found: Relearned = relearned(loop_id, self._all, gone.speaks_of)

    @property
    def newest(self) -> int:
        """Position of the newest row of the walk; -1: there is none."""
        return -1 if self._behind is None else self._behind.position

    def _all(self) -> Iterator[Row]:
        # Read several times while the job goes on: what the first time was the end stays it.
        end = self._behind
        for row in self._log.scan("outcomes", key=self._loop_id):
            if end is not None and row.position > end.position:
                return
            if end is None:
                self._behind = row
                self._is_repeat(row)
            yield row

    def _is_repeat(self, row: Row) -> bool:
        value = _decoded(row)
        if not isinstance(value, OutcomeClosed):
            return False
        decision_id = value.choice.decision_id
        repeated = decision_id in self._seen
        self._seen.add(decision_id)
        return repeated

    def _new(self) -> list[Row]:
        if self._behind is None:
            return []
        place = (self._behind.stream, self._behind.partition)
        places = {place: self._behind.position + 1}
        mine = self._log.scan_from(places, "outcomes", key=self._loop_id)
        rows = [row for row in mine if row.partition == place[1]]
        self._behind = rows[-1] if rows else self._behind
        return [row for row in rows if not self._is_repeat(row)]

    def catch_up(self) -> None:
        """Learn what has come since."""
        go_on(self.found, self._new(), self._gone.speaks_of)

    def missed(self, directive_ids: set[str]) -> bool:
        """Read on behind our own directives; return whether an outcome stands before them."""
        rows = self._new()
        mine = [getattr(_decoded(row), "directive_id", None) in directive_ids for row in rows]
        if sum(mine) < len(directive_ids):
            problem = f"{self._log.name} does not show what was appended to it"
            raise LogUnavailable(problem, "Forget once more: what was said stays said")
        go_on(self.found, rows, self._gone.speaks_of)
        before = rows[: mine.index(True)]
        return any(isinstance(_decoded(row), OutcomeClosed) for row in before)


def _decoded(row: Row) -> Any:
    try:
        return decode(row.value)
    except RecordError:
        return None
