"""`pho tables check`: the tables made anew from the log, and held against those that are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from connectors.embedded_log import EmbeddedLog
from connectors.logs import Log
from connectors.tables_feed import STREAMS
from connectors.tables_rows import day_of
from connectors.tables_schema import GREETINGS_DAILY, POLICY_HISTORY, TABLES, Row, Table
from serving.settings import Settings
from serving.tables_opening import AnyTables, made_anew

_NAMED = 5


@dataclass(slots=True)
class Compared:
    """One table against the log."""

    rows: int = 0
    """Rows of the log that count."""
    same: int = 0
    """Rows that are as the log says."""
    missing: int = 0
    """Rows that are not there."""
    extra: int = 0
    """Rows that the log does not have: of forgotten persons, or not ours."""
    different: int = 0
    """Rows that say something else."""
    older: int = 0
    """Rows of days that the log does not hold, or not whole, any more."""
    such_as: list[str] = field(default_factory=list)
    """Some of those that are wrong."""

    @property
    def equal(self) -> bool:
        """Whether they add up."""
        return not (self.missing or self.extra or self.different)

    def note(self, what: str, table: Table, row: Row) -> None:
        """Note a row that is wrong."""
        if len(self.such_as) < _NAMED:
            self.such_as.append(f"{what} {'/'.join(map(str, table.key_of(row)))}")


@dataclass(slots=True)
class Checked:
    """All tables against the log."""

    tables: dict[str, Compared]
    """By name."""
    behind: int
    """Records of the log that the tables have not read yet."""
    waiting: int
    """Days whose counts, or files, are not made yet."""
    not_taken_out: int
    """Hashes of forgotten persons that the tables have not met yet."""

    @property
    def equal(self) -> bool:
        """Whether all of them add up."""
        return not self.not_taken_out and all(each.equal for each in self.tables.values())


def check(settings: Settings, log: Log, tables: AnyTables) -> Checked:
    """Compare tables with those that the log makes up to the same place.

    Parameters
    ----------
    settings : Settings
        For who was forgotten.
    log : Log
        The log.
    tables : tables
        Open for reading.
    """
    with tables.snapshot():
        places = {place: seen.position for place, seen in tables.places().items()}
        waiting = {name: set(tables.stale_days(name)) for name in TABLES}
        known = tables.erased_hashes()
        since = _first_whole_day(log)
        with made_anew(settings, log, places) as fresh:
            left_out = fresh.erased_hashes() - known
            compared = {
                name: _compare(table, fresh, tables, waiting[name], since)
                for name, table in TABLES.items()
            }
    return Checked(compared, _behind(log, places), sum(map(len, waiting.values())), len(left_out))


def _first_whole_day(log: Log) -> str:
    """Return the first day that the log holds whole; empty: it has its beginning."""
    if isinstance(log, EmbeddedLog):
        return ""
    first: dict[tuple[str, int], int] = {}
    first_ms = 0
    for row in log.scan(*STREAMS):
        first_ms = first_ms or row.log_time_ms
        first.setdefault((row.stream, row.partition), row.position)
    return day_of(first_ms + 86_400_000) if any(first.values()) else ""


def _behind(log: Log, places: dict[tuple[str, int], int]) -> int:
    if isinstance(log, EmbeddedLog):
        return sum(1 for _ in log.scan(*STREAMS, after=places.get(("", 0), 0)))
    rows = log.scan(*STREAMS)
    return sum(row.position > places.get((row.stream, row.partition), -1) for row in rows)


def _compare(
    table: Table, wanted: AnyTables, found: AnyTables, waiting: set[str], since: str
) -> Compared:
    told = Compared()
    day = table.place("day")
    derived = table in (GREETINGS_DAILY, POLICY_HISTORY)
    for ours, theirs in _side_by_side(table, wanted.rows(table), found.rows(table)):
        row = ours or theirs
        assert row is not None  # noqa: S101 - one of them is there
        if since and (str(row[day]) < since or table is POLICY_HISTORY):
            told.older += theirs is not None
            continue
        told.rows += ours is not None
        if ours == theirs:
            told.same += 1
        elif derived and row[day] in waiting:
            continue  # told by `waiting`
        elif theirs is None:
            told.missing += 1
            told.note("missing", table, row)
        elif ours is None:
            told.extra += 1
            told.note("extra", table, row)
        else:
            told.different += 1
            told.note("different", table, row)
    return told


def _side_by_side(
    table: Table, wanted: Iterator[Row], found: Iterator[Row]
) -> Iterator[tuple[Row | None, Row | None]]:
    """Yield the rows of two tables by their keys, whose order they have; None: one lacks it."""
    ours, theirs = next(wanted, None), next(found, None)
    while ours is not None or theirs is not None:
        if theirs is None or (ours is not None and _key(table, ours) < _key(table, theirs)):
            yield ours, None
            ours = next(wanted, None)
        elif ours is None or _key(table, theirs) < _key(table, ours):
            yield None, theirs
            theirs = next(found, None)
        else:
            yield ours, theirs
            ours, theirs = next(wanted, None), next(found, None)


def _key(table: Table, row: Row) -> tuple[object, ...]:
    # As bytes: SQLite and Postgres sort by them, and Python by code points, which is the same.
    return table.key_of(row)
