"""The log as commands and connectors see it: one face for one file and for a Kafka cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

Clock = Callable[[], int]
"""Returns ms since 1970 UTC."""


class Row(NamedTuple):
    """One record of a log, as it stands there."""

    position: int
    """Place in its partition, rising: from 1 in the embedded log, from 0 on Kafka."""
    stream: str
    """Its stream."""
    key: str
    """Its key."""
    log_time_ms: int
    """When it was appended, ms since 1970 UTC; never goes back within a partition."""
    value: bytes
    """Its bytes, in Avro single-object encoding."""
    partition: int = 0
    """Its partition; the embedded log has one for all streams."""


class Tail(Protocol):
    """What comes from now on in some streams."""

    def poll(self, wait_s: float) -> list[Row]:
        """Return what has come, waiting at most so long for the first of it, seconds."""
        ...

    def close(self) -> None:
        """Stop following."""
        ...


class Log(Protocol):
    """Whoever keeps the streams.

    Errors are ours: `LogUnavailable` and `LogFull` say that nothing was appended, and what to do.
    """

    clock: Clock
    """The time an append would get now; on Kafka the broker decides, and this is its estimate."""
    name: str
    """Where it is, for a person to read: a folder, or ``kafka://host:9092/shop``."""

    def append(self, stream: str, value: Any) -> object:
        """Append one record; it is durable on return."""
        ...

    def append_all(self, records: Iterable[tuple[str, Any]]) -> object:
        """Append several, in this order within each partition; all are durable on return."""
        ...

    def append_bytes(self, records: Sequence[tuple[str, str, bytes]]) -> object:
        """Append (stream, key, bytes) as they came; all are durable on return."""
        ...

    def scan(self, *streams: str, key: str | None = None) -> Iterator[Row]:
        """Yield all there is now in some streams (in all, where none is named).

        In the order of log time; at one log time in the order of the streams as named, then of
        partition and position. The embedded log has a total order and keeps it.
        """
        ...

    def tail(self, *streams: str, key: str | None = None) -> Tail:
        """Follow some streams from their present end."""
        ...

    def last(self, stream: str, count: int) -> list[Row]:
        """Return the newest records of a stream, Ticks aside, oldest first."""
        ...

    def counts(self) -> dict[str, int]:
        """Return the number of records of each stream; on Kafka Ticks count with their stream."""
        ...

    def complete_through_ms(self) -> int:
        """Return the lowest newest log time of the partitions the join reads, ms; 0: one is empty.

        Whatever had to happen before it has happened, if the job has caught up.
        """
        ...

    def bookmark(self, name: str) -> dict[tuple[str, int], int]:
        """Return the next position to read of each (stream, partition), as last set."""
        ...

    def set_bookmark(self, name: str, places: dict[tuple[str, int], int]) -> None:
        """Remember, durably, how far a reader of this name has come."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
