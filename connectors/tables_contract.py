"""Between the consumer and the tables: what is written in one transaction, and who does what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from connectors.logs import Row as LogRow
from connectors.persons import Erased
from connectors.tables_rows import Visit, together
from connectors.tables_schema import Row

Steps = Callable[[str], None]
"""Called with the name of each step: crash tests end the process there."""
Place = tuple[str, int]
"""A stream and a partition; of the embedded log, whose order is total, ``("", 0)``."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The last row that was read of a place."""

    position: int
    """Its position."""
    log_time_ms: int
    """Its log time, ms."""
    crc: int
    """CRC-32 of its bytes, which tells whether a log is the one that was read; 0: not known."""


@dataclass(slots=True)
class Batch:
    """What changes in one transaction."""

    decisions: list[Row] = field(default_factory=list)
    """New rows; one whose id is known changes nothing."""
    outcomes: list[Row] = field(default_factory=list)
    """New rows; one whose id is known changes nothing."""
    visits: dict[str, Visit] = field(default_factory=dict)
    """What the log tells of visits, by id; added to what is known."""
    history: list[Row] = field(default_factory=list)
    """Rows of policy_history that are new or other than before."""
    whole_history: bool = False
    """True: these are all there are."""
    state: bytes | None = None
    """What the history needs to go on; None: as it was."""
    places: dict[Place, Seen] = field(default_factory=dict)
    """How far the log is read, when all this is written."""
    erased: Erased | None = None
    """Everybody who was forgotten, where somebody is new among them."""

    def add_visit(self, more: Visit) -> None:
        """Add what a record tells of a visit."""
        known = self.visits.get(more.visit_id)
        self.visits[more.visit_id] = more if known is None else together(known, more)


class Tables(Protocol):
    """Where the rows go; each member is as in `SqlTables`."""

    steps: Steps
    """Called with the name of each step."""

    @property
    def name(self) -> str:
        """Where it is."""
        ...

    @property
    def refresh_every_s(self) -> float:
        """What is made of rows is made anew so often at most, seconds."""
        ...

    def places(self) -> dict[Place, Seen]:
        """Return how far the log is read."""
        ...

    def state(self) -> bytes | None:
        """Return what the history needs to go on."""
        ...

    def erased_hashes(self) -> set[str]:
        """Return the hashes of everybody who was taken out."""
        ...

    def known_outcomes(self, ids: Iterable[str]) -> set[str]:
        """Return those of some decisions that have an outcome."""
        ...

    def write(self, batch: Batch) -> None:
        """Write a batch: all of it, or nothing."""
        ...

    def refresh(self) -> int:
        """Make what is counted from rows that changed; return how many days were."""
        ...


class History(Protocol):
    """Makes policy_history of the learning log."""

    def take(self, row: LogRow, value: object) -> None:
        """Take the next row of `outcomes`, and what it holds; None: nobody can read it."""
        ...

    def changed(self) -> list[Row]:
        """Return the rows that changed since this was asked last."""
        ...

    def pack(self) -> bytes:
        """Return what is needed to go on from here."""
        ...


@runtime_checkable
class ReadsOn(Protocol):
    """A log in partitions, that can be read on from its places (`KafkaLog`)."""

    def scan_from(
        self, places: Mapping[Place, int], *streams: str, key: str | None = None
    ) -> Iterator[LogRow]:
        """Yield like `scan`, but of each place only from a position on."""
        ...

    def newest(self, *streams: str, ticks: bool = True) -> dict[Place, LogRow | None]:
        """Return the newest record of each place."""
        ...


class StopFlag(Protocol):
    """Says when to end."""

    def is_set(self) -> bool:
        """Whether to end now."""
        ...
