"""The tables in a database that speaks SQL: what SQLite and Postgres have in common.

Rows and the place up to which the log was read change in one transaction, so a consumer killed
anywhere goes on where it stopped, without loss or repeat. There is one writer at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from connectors.persons import Erased
from connectors.tables_contract import Batch, Place, Seen, Steps
from connectors.tables_daily import COUNTED, daily_rows
from connectors.tables_database import SqlDatabase
from connectors.tables_rows import Visit, day_of, together, visit_of, visit_row
from connectors.tables_schema import (
    DECISIONS,
    GREETINGS_DAILY,
    OUTCOMES,
    POLICY_HISTORY,
    TABLES,
    VISITS,
    Row,
    Table,
)

_BY_DECISION = (DECISIONS, OUTCOMES)
_FETCHED_TOGETHER = 1_000


def time_text(time_ms: int) -> str:
    """Return a time as SQLite keeps it and Postgres reads it, ``2026-11-21 17:03:11.250``."""
    minutes, rest_ms = divmod(time_ms, 60_000)
    second, milliseconds = divmod(rest_ms, 1_000)
    return f"{_minute_text(minutes)}:{second:02}.{milliseconds:03}"


@lru_cache(4_096)
def _minute_text(minutes: int) -> str:
    # A row has up to four times, and a log's rows come in the order of time.
    hour, minute = divmod(minutes % 1_440, 60)
    return f"{day_of(minutes * 60_000)} {hour:02}:{minute:02}"


class SqlTables(SqlDatabase):
    """The tables, and what the consumer remembers, in a database.

    Parameters
    ----------
    name : str
        Where it is, for a person to read.
    exports : bool
        True: every day that changed is marked, for whoever writes days into files.
    """

    bytewise = ""
    """What stands behind a text to sort it by its bytes, whatever the database's language is."""
    refresh_every_s = 1.0
    """greetings_daily is counted anew so often at most, seconds."""
    zone = ""
    """What stands behind a time it is given."""

    def __init__(self, name: str, *, exports: bool = False) -> None:
        super().__init__(name)
        self.steps: Steps = lambda _name: None
        """Called with the name of each step: crash tests end the process there."""
        self._marked = (VISITS, *_BY_DECISION) if exports else ()
        self._exports = exports

    # What the consumer remembers

    def places(self) -> dict[Place, Seen]:
        """Return how far the log is read."""
        rows = self.run("SELECT stream, part, position, log_time_ms, crc FROM pho_places")
        # Positions as text: those of Kinesis have more digits than a database's integers.
        return {(row[0], row[1]): Seen(int(row[2]), row[3], row[4]) for row in rows}

    def state(self) -> bytes | None:
        """Return what the history needs to go on; None: nothing was kept."""
        found = self.run("SELECT data FROM pho_states WHERE name = 'history'")
        return bytes(found[0][0]) if found else None

    def erased_hashes(self) -> set[str]:
        """Return the hashes of everybody who was taken out."""
        return {row[0] for row in self.run("SELECT id_hash FROM pho_erased")}

    def stale_days(self, name: str) -> list[str]:
        """Return the days of a table that are not what the log says, yet."""
        query = "SELECT day FROM pho_stale WHERE name = ? ORDER BY day"
        return [row[0] for row in self.run(query, (name,))]

    def known_outcomes(self, ids: Iterable[str]) -> set[str]:
        """Return those of some decisions that have an outcome."""
        wanted = self.texts(ids)
        query = f"SELECT decision_id FROM outcomes WHERE {self.among('decision_id')}"  # noqa: S608
        return {row[0] for row in self.run(query, (wanted,))}

    # Changing them

    def write(self, batch: Batch) -> None:
        """Write a batch: all of it, or nothing."""
        with self.transaction():
            for table, rows in zip(_BY_DECISION, (batch.decisions, batch.outcomes), strict=True):
                self._insert(table, rows)
            self.steps("rows")
            self._add_visits(batch.visits)
            self._write_history(batch)
            self.steps("history")
            if batch.erased is not None:
                self._erase(batch.erased)
            self.run_many(
                "INSERT INTO pho_places VALUES (?, ?, ?, ?, ?) ON CONFLICT (stream, part) DO UPDATE"
                " SET position = excluded.position, log_time_ms = excluded.log_time_ms,"
                " crc = excluded.crc",
                [
                    (*place, str(seen.position), seen.log_time_ms, seen.crc)
                    for place, seen in batch.places.items()
                ],
            )
            self.steps("places")

    def _insert(self, table: Table, rows: list[Row]) -> None:
        self.insert_rows(table, rows, f"ON CONFLICT ({', '.join(table.key)}) DO NOTHING")
        day = table.place("day")
        self._mark(table, {str(row[day]) for row in rows})

    def insert_rows(self, table: Table, rows: list[Row], conflict: str = "") -> None:
        """Insert rows, inside a transaction."""
        if rows:
            marks = ", ".join("?" * len(table.columns))
            query = f"INSERT INTO {table.name} VALUES ({marks}) {conflict}"  # noqa: S608
            self.run_many(query, self.to_database(table, rows))

    def to_database(self, table: Table, rows: Iterable[Row]) -> list[list[Any]]:
        """Return rows as the database takes them."""
        times = [place for place, column in enumerate(table.columns) if column.kind == "time"]
        zone = self.zone
        taken = []
        for row in rows:
            values: list[Any] = list(row)
            for place in times:
                if (time_ms := values[place]) is not None:
                    values[place] = time_text(time_ms) + zone
            taken.append(values)
        return taken

    def _mark(self, table: Table, days: set[str]) -> None:
        names = [f"{table.name}.file"] if table in self._marked else []
        if table in _BY_DECISION:
            names.append(GREETINGS_DAILY.name)
        self.run_many(
            "INSERT INTO pho_stale VALUES (?, ?) ON CONFLICT (name, day) DO NOTHING",
            [(name, day) for name in names for day in sorted(days)],
        )

    def _add_visits(self, visits: dict[str, Visit]) -> None:
        days: set[str] = set()
        rows = []
        of_day = VISITS.place("day")
        for known in self._fetched(VISITS, list(visits)):
            day = str(known[of_day])
            visit = visit_of(known)
            row = visit_row(together(visit, visits.pop(visit.visit_id)))
            if row != known:
                days.add(day)
                rows.append(row)
        rows += [visit_row(visit) for visit in visits.values()]
        self._replace(VISITS, rows)
        self._mark(VISITS, days | {str(row[of_day]) for row in rows})

    def _fetched(self, table: Table, keys: list[str]) -> list[Row]:
        found: list[Row] = []
        query = f"SELECT * FROM {table.name} WHERE {self.among(table.key[0])}"  # noqa: S608
        for start in range(0, len(keys), _FETCHED_TOGETHER):
            wanted = self.texts(keys[start : start + _FETCHED_TOGETHER])
            found += (self._canonical(table, row) for row in self.run(query, (wanted,)))
        return found

    def _replace(self, table: Table, rows: list[Row]) -> None:
        others = [name for name in table.names if name not in table.key]
        sets = ", ".join(f"{name} = excluded.{name}" for name in others)
        key = ", ".join(table.key)
        self.insert_rows(table, rows, f"ON CONFLICT ({key}) DO UPDATE SET {sets}")

    def _write_history(self, batch: Batch) -> None:
        day = POLICY_HISTORY.place("day")
        days = {str(row[day]) for row in batch.history}
        if batch.whole_history:
            if self._exports:
                days |= {str(row[0]) for row in self.run("SELECT DISTINCT day FROM policy_history")}
            self.run("DELETE FROM policy_history")
        self._replace(POLICY_HISTORY, batch.history)
        if self._exports:
            self._mark_exported(POLICY_HISTORY, days)
        if batch.state is not None:
            self.run(
                "INSERT INTO pho_states VALUES ('history', ?) "
                "ON CONFLICT (name) DO UPDATE SET data = excluded.data",
                (batch.state,),
            )

    def _mark_exported(self, table: Table, days: Iterable[str]) -> None:
        self.run_many(
            "INSERT INTO pho_stale VALUES (?, ?) ON CONFLICT (name, day) DO NOTHING",
            [(f"{table.name}.file", day) for day in sorted(days)],
        )

    def _erase(self, erased: Erased) -> None:
        """Delete every row that names somebody who was forgotten."""
        for table in (VISITS, *_BY_DECISION):
            query = f"SELECT decision_id, visit_id, day FROM {table.name}"  # noqa: S608
            gone = [
                (decision_id if table.key[0] == "decision_id" else visit_id, str(day))
                for decision_id, visit_id, day in self.run(query)
                if erased.holds(decision_id) or (visit_id is not None and erased.holds(visit_id))
            ]
            if gone:
                self._mark(table, {day for _, day in gone})
                query = f"DELETE FROM {table.name} WHERE {table.key[0]} = ?"  # noqa: S608
                self.run_many(query, [(key,) for key, _ in gone])
        self.run_many(
            "INSERT INTO pho_erased VALUES (?) ON CONFLICT (id_hash) DO NOTHING",
            [(each,) for each in sorted(erased.hashes)],
        )

    def refresh(self) -> int:
        """Count the days anew whose decisions or outcomes changed; return how many."""
        name = GREETINGS_DAILY.name
        days = self.stale_days(name)
        for day in days:
            with self.transaction():
                query = (
                    f"SELECT {COUNTED} FROM decisions d LEFT JOIN outcomes o "  # noqa: S608
                    "ON o.decision_id = d.decision_id WHERE d.day = ?"
                )
                rows = daily_rows(day, self.run(query, (day,)))
                self.run("DELETE FROM greetings_daily WHERE day = ?", (day,))
                self.steps("daily")
                self.insert_rows(GREETINGS_DAILY, rows)
                if self._exports:
                    self._mark_exported(GREETINGS_DAILY, [day])
                self.run("DELETE FROM pho_stale WHERE name = ? AND day = ?", (name, day))
        return len(days)

    def forget_stale(self, days: list[tuple[str, str]]) -> None:
        """Take the marks off some days: (name, day)."""
        with self.transaction():
            self.run_many("DELETE FROM pho_stale WHERE name = ? AND day = ?", days)

    # Reading them

    def rows(self, table: Table, day: str | None = None) -> Iterator[Row]:
        """Yield the rows of a table, or of one of its days, in the order of their keys."""
        where, values = ("", ()) if day is None else ("WHERE day = ?", (day,))
        kinds = {column.name: column.kind for column in table.columns}
        order = ", ".join(name + self.bytewise * (kinds[name] == "text") for name in table.key)
        query = f"SELECT * FROM {table.name} {where} ORDER BY {order}"  # noqa: S608
        for row in self.read(query, values):
            yield self._canonical(table, row)

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each table."""
        return {
            name: int(self.run(f"SELECT COUNT(*) FROM {name}")[0][0])  # noqa: S608 - ours
            for name in TABLES
        }

    def rows_by_day(self, table: Table) -> dict[str, int]:
        """Return the number of rows of each day of a table."""
        query = f"SELECT day, COUNT(*) FROM {table.name} GROUP BY day ORDER BY day"  # noqa: S608
        return {str(day): int(count) for day, count in self.run(query)}

    def _canonical(self, table: Table, row: Sequence[Any]) -> Row:
        return tuple(
            None if value is None else self.from_database(column.kind, value)
            for column, value in zip(table.columns, row, strict=True)
        )
