"""A log watched for what stands between visitors and the loop: dead letters, an analyser not asked.

A function of the log, as `serving.loop_watch` is: ids follow from what happened and its hour or
day, so a repeat is the same alarm. Of what is read together only the newest hour or day is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from connectors.letter_hours import HOUR_MS, KIND, Gathered, LetterHours
from connectors.logs import Row
from pipelines.analyze import BREAKER_OPEN, OVER_BUDGET, NotAsked
from schemas.codec import decode
from schemas.errors import RecordError
from schemas.frames import FrameAnalyzed
from schemas.operations import AlarmRaised, alarm_id
from schemas.outcomes import Evidence
from schemas.streams import DEAD_LETTERS

TROUBLE_STREAMS = ("analyses", DEAD_LETTERS)
"""What it reads."""
KINDS = {OVER_BUDGET: "budget_used_up", BREAKER_OPEN: "analyser_failing"}
"""Kind of the alarm, by why an analyser is not asked."""

# Avro holds texts as they are: a look at the bytes costs a hundredth of decoding them, and of a
# million answers hardly any has one of these.
_MARKS = tuple(reason.encode() for reason in KINDS)


@dataclass(slots=True)
class _Unasked:
    """Answers of one loop that an analyser was not asked for."""

    why: NotAsked
    when: str
    log_time_ms: int
    frames: int = 0


class TroubleWatch:
    """Watches one log; feed it each row of `TROUBLE_STREAMS`, in order."""

    def __init__(self) -> None:
        self._loops: dict[str, None] = {}
        self._letters = LetterHours()
        self._unasked: dict[tuple[str, str, str], _Unasked] = {}

    def knows(self, loop_id: str) -> None:
        """Take note of a loop that is configured: an alarm names one, and a wrong frame none."""
        self._loops.setdefault(loop_id)

    def take(self, row: Row, *, new: bool) -> None:
        """Take a row; `new`: no watcher has read it before."""
        if row.stream == DEAD_LETTERS:
            self._letters.take(row, new=new)
        elif new and any(mark in row.value for mark in _MARKS):
            self._looked(row)

    def found(self) -> list[AlarmRaised]:
        """Return what the rows since the last call give away.

        Nothing before the first loop is configured: it waits until then.
        """
        if not self._loops:
            return []
        found = [self._letters_came(each) for each in self._letters.gathered()]
        found += [self._not_asked(key[0], each) for key, each in self._unasked.items()]
        self._unasked.clear()
        return found

    def _looked(self, row: Row) -> None:
        value = _decoded(row.value)
        if not isinstance(value, FrameAnalyzed):
            return
        why = NotAsked.read(value.error)
        if why is None or (value.status != "failed" and value.fallback_of != why.analyser):
            return
        # A budget says its day; what is written a second after midnight is of the day before.
        when = why.day or str(row.log_time_ms // HOUR_MS)
        key = (value.loop_id, why.analyser, why.reason)
        held = self._unasked.get(key)
        if held is None or when > held.when:
            held = self._unasked[key] = _Unasked(why, when, row.log_time_ms)
        held.frames += when == held.when

    def _not_asked(self, loop_id: str, unasked: _Unasked) -> AlarmRaised:
        why = unasked.why
        loop_id = self._of_a_loop(loop_id)
        kind = KINDS[why.reason]
        name = alarm_id(kind, loop_id, why.analyser, unasked.when)
        numbers = (Evidence("frames", float(unasked.frames)),)
        return AlarmRaised(name, loop_id, kind, why.analyser, unasked.log_time_ms, numbers)

    def _letters_came(self, gathered: Gathered) -> AlarmRaised:
        first = gathered.first
        loop_id = self._of_a_loop(_loop_of(first.raw))
        detector = f"letters.{first.stream}.{first.reason}"
        numbers = (
            Evidence("letters", float(gathered.count)),
            Evidence("hour_before", float(gathered.before)),
        )
        at_ms = gathered.row.log_time_ms
        return AlarmRaised(gathered.alarm_id, loop_id, KIND, detector, at_ms, numbers)

    def _of_a_loop(self, loop_id: str) -> str:
        """Return a loop that is configured: this one, or the one that was configured first."""
        # Whoever writes a wrong frame must not put a loop's name on the owner's page.
        return loop_id if loop_id in self._loops else next(iter(self._loops))


def _loop_of(raw: bytes) -> str:
    value = _decoded(raw)
    return str(getattr(getattr(value, "choice", value), "loop_id", ""))


def _decoded(raw: bytes) -> object:
    try:
        return decode(raw)
    except RecordError:
        return None
