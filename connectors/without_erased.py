"""A log without everybody who was forgotten: what nobody can take out of Kafka is left out here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from connectors.logs import Log, Row, Tail
from connectors.persons import Erased


class WithoutErased:
    """A log as those see it who read for people.

    Parameters
    ----------
    log : Log
        The log.
    erased : Erased
        Who is left out. `counts` and places are still the log's own.
    """

    def __init__(self, log: Log, erased: Erased) -> None:
        self._log = log
        self._erased = erased
        self.clock = log.clock
        self.name = log.name

    def append(self, stream: str, value: Any) -> object:
        """Append one record."""
        return self._log.append(stream, value)

    def append_all(self, records: Iterable[tuple[str, Any]]) -> object:
        """Append several."""
        return self._log.append_all(records)

    def append_bytes(self, records: Sequence[tuple[str, str, bytes]]) -> object:
        """Append (stream, key, bytes) as they came."""
        return self._log.append_bytes(records)

    def scan(self, *streams: str, key: str | None = None) -> Iterator[Row]:
        """Yield all there is now in some streams, without them."""
        return self._left(self._log.scan(*streams, key=key))

    def tail(self, *streams: str, key: str | None = None) -> Tail:
        """Follow some streams from their present end: who comes now was not forgotten yet."""
        return self._log.tail(*streams, key=key)

    def last(self, stream: str, count: int) -> list[Row]:
        """Return the newest records of a stream, without theirs: perhaps fewer."""
        return list(self._left(self._log.last(stream, count)))

    def counts(self) -> dict[str, int]:
        """Return the number of records of each stream, theirs among them."""
        return self._log.counts()

    def complete_through_ms(self) -> int:
        """Return the lowest newest log time of the partitions the join reads, ms."""
        return self._log.complete_through_ms()

    def bookmark(self, name: str) -> dict[tuple[str, int], int]:
        """Return the next position to read of each (stream, partition), as last set."""
        return self._log.bookmark(name)

    def set_bookmark(self, name: str, places: dict[tuple[str, int], int]) -> None:
        """Remember how far a reader of this name has come."""
        self._log.set_bookmark(name, places)

    def close(self) -> None:
        """Let go of it."""
        self._log.close()

    def _left(self, rows: Iterable[Row]) -> Iterator[Row]:
        return (row for row in rows if not self._erased.speaks_of(row))
