"""Feeds the tables in DynamoDB from a log, wherever that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from connectors.dynamodb_items import Item, item_of
from connectors.dynamodb_tables import DynamoTables, Places
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Log, Row
from connectors.persons import Erased
from connectors.tables_rows import is_late
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.errors import RecordError

STREAMS = ("decisions", "outcomes", "erasures")
_BATCH = 500


@dataclass(slots=True)
class Fed:
    """What a feed did."""

    new: int = 0
    """Items that are new in the tables."""
    held: int = 0
    """Records whose item was there: repeats, and what a killed run had written."""
    erased: int = 0
    """Items deleted, and records left out, since somebody was forgotten."""
    unreadable: int = 0
    """Records that cannot be read; the engine makes dead letters of them."""


@dataclass(slots=True)
class DynamoFeed:
    """Reads a log and keeps the tables; one at a time for each name."""

    log: Log
    """The log."""
    tables: DynamoTables
    """The tables."""
    keep_days: int
    """Days after its decision when an item goes by itself; 0: never."""
    erased: Callable[[], Erased | None] = lambda: None
    """Returns everybody who was forgotten, as the log knows them now; None: nobody."""
    name: str = "tables"
    """Name of this feed: two logs into the same tables need two."""
    fed: Fed = field(default_factory=Fed)
    """What it did so far."""
    _places: Places = field(default_factory=dict)
    _gone: Erased | None = None

    def run_once(self) -> Fed:
        """Take all there is now.

        Raises
        ------
        ResourceError
            Log or tables do not answer; the next run goes on where the last batch ended.
        """
        self._places = self.tables.positions(self.name)
        # Whoever was forgotten before: their records may still stand in a log nobody can cut.
        self._gone = self.erased()
        self.take(self._scan())
        return self.fed

    def take(self, rows: Iterable[Row]) -> None:
        """Take rows, in batches: the items first, then the place behind them."""
        batch: list[Row] = []
        for row in rows:
            if row.position < self._places.get((row.stream, row.partition), 0):
                continue
            batch.append(row)
            if len(batch) == _BATCH:
                self._commit(batch)
                batch = []
        if batch:
            self._commit(batch)

    def _scan(self) -> Iterator[Row]:
        if isinstance(self.log, EmbeddedLog):
            # One order for all streams: what lies before the lowest place was taken.
            places = [self._places.get((stream, 0), 0) for stream in STREAMS]
            return self.log.scan(*STREAMS, after=max(0, min(places) - 1))
        return self.log.scan(*STREAMS)

    def _commit(self, batch: list[Row]) -> None:
        if any(row.stream == "erasures" for row in batch):
            self._gone = self.erased()
            if self._gone is not None:
                self.fed.erased += self.tables.erase(self._gone)
        items = self._items(batch)
        new = self.tables.put(items)
        self.fed.new += new
        self.fed.held += len(items) - new
        moved = {(row.stream, row.partition): row.position + 1 for row in batch}
        if isinstance(self.log, EmbeddedLog):
            moved = {(stream, 0): batch[-1].position + 1 for stream in STREAMS}
        self.tables.set_positions(self.name, moved)
        self._places |= moved

    def _items(self, batch: list[Row]) -> list[tuple[str, Item]]:
        found = []
        for row in batch:
            if row.stream == "erasures":
                continue
            if self._gone is not None and self._gone.speaks_of(row):
                self.fed.erased += 1
                continue
            try:
                value = decode(row.value)
            except RecordError:
                self.fed.unreadable += 1
                continue
            if isinstance(value, DecisionMade) and is_late(value, row.log_time_ms):
                continue
            item = item_of(value, self.keep_days)
            if item is not None:
                found.append(item)
        return found
