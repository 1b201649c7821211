"""Dead letters as a person is told of them: those of a kind once an hour, with how many came.

A broken camera makes thousands, and nobody reads the second mail. A kind is a stream and a reason;
the id of what is told follows from both and the hour, so whoever reads the same log tells the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from connectors.logs import Row
from schemas.codec import decode
from schemas.errors import RecordError
from schemas.operations import SideRecord, alarm_id

HOUR_MS = 3_600_000
KIND = "dead_letters"
"""What an alarm of them is about."""

_Kind = tuple[str, str]


@dataclass(slots=True)
class Gathered:
    """Dead letters of one kind that came together."""

    row: Row
    """Where the first of them stands."""
    first: SideRecord
    """The first of them."""
    count: int
    """How many."""
    before: int
    """How many of the kind came in the hour that was told before; 0: there was none."""
    hour: int
    """When the last of them came, hours since 1970 UTC."""

    @property
    def alarm_id(self) -> str:
        """The same for whoever reads the same log."""
        return alarm_id(KIND, self.first.stream, self.first.reason, self.hour)


@dataclass(slots=True)
class _Hour:
    hour: int
    before: int
    letters: int = 0


class LetterHours:
    """Gathers dead letters; feed it each row of their stream, in order."""

    def __init__(self) -> None:
        self._known: dict[_Kind, _Hour] = {}
        self._gathered: dict[_Kind, Gathered] = {}

    def take(self, row: Row, *, new: bool = True) -> None:
        """Take a row; bytes that are no record are passed over.

        Parameters
        ----------
        row : Row
            A row of ``dead-letters``.
        new : bool
            False: a reader before this one has told of it.
        """
        try:
            letter = decode(row.value)
        except RecordError:
            return
        if not isinstance(letter, SideRecord):
            return
        kind, hour = (letter.stream, letter.reason), row.log_time_ms // HOUR_MS
        known = self._known.get(kind)
        is_first = known is None or known.hour != hour
        if known is None or is_first:
            before = known.letters if known is not None else 0
            known = self._known[kind] = _Hour(hour, before)
        known.letters += 1
        held = self._gathered.get(kind)
        if held is not None:
            held.count += 1
            held.hour = hour
        elif is_first and new:
            self._gathered[kind] = Gathered(row, letter, 1, known.before, hour)

    def gathered(self) -> list[Gathered]:
        """Return what is to be told now, and forget it."""
        found = list(self._gathered.values())
        self._gathered.clear()
        return found
