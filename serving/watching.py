"""Watches a log: alarms of what a loop earns and of what stands in its way; more exploration then.

An alarm is raised where reward or residual shifts, dead letters come, an analyser is not asked.
Stands outside the job: it reads the learning log, the analyses and the dead letters, appends
AlarmRaised to `alarms` and, where it may widen exploration, PolicyDirected to `outcomes`.
Everything it finds is a function of the log: ids follow from the detector and what tripped it, so
a second watcher, or one that starts again, finds the same alarms and appends none twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from connectors.logs import Log, Row
from engines.job import StopFlag
from engines.rebuilding import Learned, Relearning
from schemas.codec import decode
from schemas.errors import RecordError
from schemas.loops import LoopConfigured
from schemas.operations import AlarmRaised, EstimateMade
from schemas.outcomes import OutcomeClosed, PolicyDirected
from serving.live_estimates import LiveEstimates
from serving.loop_watch import Found, LoopWatch, Watching
from serving.trouble_watch import TROUBLE_STREAMS, TroubleWatch

BOOKMARK = "watch"
"""The bookmark: what lies before it raises nothing any more."""
_WATCHED = ("outcomes", *TROUBLE_STREAMS)
_WAIT_S = 0.25


class Watch:
    """Watches every loop of a log, and appends what it finds.

    Parameters
    ----------
    log : Log
        The log.
    how : Watching
        How each loop is watched.
    told : callable
        Told each alarm and directive as it is appended.
    """

    def __init__(
        self, log: Log, how: Watching, told: Callable[[Found], None] = lambda _found: None
    ) -> None:
        self.log = log
        self.how = how
        self.told = told
        self._loops: dict[str, _Loop] = {}
        self._troubles = TroubleWatch()
        self._places: dict[tuple[str, int], int] = {}
        self._known = self._known_ids()
        self._seen_before = log.bookmark(BOOKMARK)

    def run(self, stop: StopFlag | None) -> None:
        """Read what there is, then follow until `stop` is set; None: one pass only."""
        # Opened first, or what is appended during the pass would be seen by neither.
        tail = self.log.tail(*_WATCHED) if stop is not None else None
        try:
            self._pass(self.log.scan(*_WATCHED))
            while tail is not None and stop is not None and not stop.is_set():
                self._pass(tail.poll(_WAIT_S))
        finally:
            if tail is not None:
                tail.close()

    def _pass(self, rows: Iterable[Row]) -> None:
        """Read rows, then append what they give away: only now is known what stands there."""
        wished: list[tuple[_Loop, Found]] = []
        moved = False
        for row in rows:
            place = (row.stream, row.partition)
            if row.stream not in _WATCHED or row.position < self._places.get(place, 0):
                continue
            self._places[place] = row.position + 1
            moved = True
            is_new = row.position >= self._seen_before.get(place, 0)
            if row.stream != "outcomes":
                self._troubles.take(row, new=is_new)
                continue
            loop, found = self._learned(row)
            if is_new:
                wished += [(loop, each) for each in found]
        for loop, each in wished:
            if not loop.watch.is_stale(each):
                self._tell(each)
        for alarm in self._troubles.found():
            self._tell(alarm)
        if moved:
            self.log.set_bookmark(BOOKMARK, self._places)

    def _learned(self, row: Row) -> tuple[_Loop, list[Found]]:
        """Take a row of the learning log; return its loop, and what the row gives away."""
        loop = self._loops.setdefault(row.key, _Loop(row.key, self.how))
        step = loop.relearning.take(row)
        if step is None:
            return loop, []
        value = step.record.value
        if not step.refused and isinstance(value, PolicyDirected):
            self._known.add(value.directive_id)
        if not step.refused and isinstance(value, LoopConfigured):
            self._troubles.knows(value.loop_id)
        return loop, loop.take(step)

    def _tell(self, found: Found) -> None:
        """Append what was found, unless it stands there."""
        name = _id_of(found)
        if name in self._known:
            return
        self.log.append(_STREAMS[type(found)], found)
        self._known.add(name)
        self.told(found)

    def _known_ids(self) -> set[str]:
        """Return what is told already; directives are met in the learning log itself."""
        known = set()
        for row in self.log.scan("alarms", *(("estimates",) if self.how.estimates else ())):
            try:
                value = decode(row.value)
            except RecordError:
                continue
            if isinstance(value, Found):
                known.add(_id_of(value))
        return known


_STREAMS: dict[type[Found], str] = {
    AlarmRaised: "alarms",
    EstimateMade: "estimates",
    PolicyDirected: "outcomes",
}


def _id_of(found: Found) -> str:
    if isinstance(found, AlarmRaised):
        return found.alarm_id
    if isinstance(found, PolicyDirected):
        return found.directive_id
    stretch = f"{found.from_ms}-{found.to_ms}-{found.n}"
    return f"{found.loop_id}/{found.policy_id}/{found.method}/{stretch}"


class _Loop:
    """One loop on its way through `learn` to its watch."""

    def __init__(self, loop_id: str, how: Watching) -> None:
        self.relearning = Relearning()
        self.watch = LoopWatch(loop_id, how)
        self.estimates = LiveEstimates() if how.estimates else None

    def take(self, step: Learned) -> list[Found]:
        """Take a record of the learning log; return what it gives away."""
        found = self.watch.take(step)
        if self.estimates is None or step.repeat or step.refused:
            return found
        value = step.record.value
        if isinstance(value, LoopConfigured):
            self.estimates.configure(value)
        elif isinstance(value, OutcomeClosed):
            found += self.estimates.take(value, step.record.log_time_ms)
        return found
