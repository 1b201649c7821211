"""The embedded log: one SQLite file that several processes append to and read at once.

It is one partition: a total order over all streams. The file also holds what the embedded engine
remembers, so that inputs taken, state and outputs change in one transaction (engines/embedded.py).
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectors.clocks import WallClock
from connectors.entries import entry
from connectors.logs import Clock, Row
from schemas.codec import encode
from schemas.errors import LogFull, LogUnavailable, UsageError
from schemas.operations import Tick
from schemas.streams import STREAMS

FILE_NAME = "pho.db"
BUSY_TIMEOUT_MS = 10_000
"""How long an append waits for another process's commit, which lasts milliseconds."""
FORMAT_VERSION = 1
_READ_LIMIT = 2_000
_POLL_S = 0.02

Steps = Callable[[str], None]
"""Called with the name of each step of a commit: crash tests end the process there."""

_SCHEMA = """
CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE log (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    key TEXT NOT NULL,
    log_time_ms INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE changes (segment INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL);
"""
# An index on every stream would cost each append a second write; these few, seldom written, are
# looked up by name. Their ids start here, since whether a row belongs into the index is asked at
# every append: 5 us for a list of ids, 0.3 us for one comparison (an append is 4 us in all).
_INDEXED = ("loops", "policies", "late", "unmatched", "dead-letters", "alarms")
_INDEXED_FROM = 100


def _no_step(_name: str) -> None:
    pass


class EmbeddedLog:
    """The log in a folder.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    clock : callable
        Returns ms since 1970 UTC; log time is its time, or the newest in the log if that is later.
    synchronous : str
        ``FULL``: a commit survives the loss of power. ``NORMAL``: the loss of the process only.
    steps : callable
        Called at each named step of a commit.

    Raises
    ------
    LogUnavailable
        When the file is no log, or belongs to a newer release.
    LogFull
        When there is no room for it.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock | None = None,
        synchronous: str = "FULL",
        steps: Steps = _no_step,
    ) -> None:
        self.folder = folder
        self.name = str(folder)
        self.path = folder / FILE_NAME
        self.clock = clock or WallClock()
        self.steps = steps
        with _explained(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self.db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            # Records have some 600 bytes, and fill the usual pages of 4,096 badly.
            self.db.execute("PRAGMA page_size = 8192")
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute(f"PRAGMA synchronous = {synchronous}")
            self.db.execute("PRAGMA wal_autocheckpoint = 4000")
            self._prepare()
            streams = self.db.execute("SELECT id, name FROM streams").fetchall()
        self._ids: dict[str, int] = {name: number for number, name in streams}
        self._names: dict[int, str] = dict(streams)

    def _prepare(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                self.db.execute(statement)
            self.db.executemany(
                "INSERT INTO streams VALUES (?, ?)",
                [
                    (number + _INDEXED_FROM * (name in _INDEXED), name)
                    for number, name in enumerate(STREAMS)
                ],
            )
            self.db.execute(
                "CREATE INDEX log_by_stream ON log (stream, position) "
                f"WHERE stream >= {_INDEXED_FROM}"
            )
            self.db.execute("INSERT INTO facts VALUES ('floor_ms', 0)")
            self.db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        self.db.execute("COMMIT")
        if version > FORMAT_VERSION:
            problem = f"{self.path} has format {version}, this release knows {FORMAT_VERSION}"
            raise LogUnavailable(problem, "Use the release of PHO that wrote it, or a newer one")

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    # Writing

    def append(self, stream: str, value: Any) -> int:
        """Append one record durably; return its position.

        Parameters
        ----------
        stream : str
            One of `schemas.streams.STREAMS`.
        value : any of our records
            It must be one the stream may carry.

        Raises
        ------
        LogFull, LogUnavailable
            Nothing was appended.
        UsageError
            There is no such stream, or the record does not belong there.
        """
        return self.append_all([(stream, value)])[0]

    def append_all(self, records: Iterable[tuple[str, Any]]) -> list[int]:
        """Append several records in one transaction; return their positions."""
        return self.append_bytes([entry(stream, value) for stream, value in records])

    def append_bytes(self, records: Sequence[tuple[str, str, bytes]]) -> list[int]:
        """Append (stream, key, bytes) as they came: what another log holds, or a test refuses."""
        with self.transaction():
            positions = self.write(records)
        for _ in positions:
            self.steps("append")
        return positions

    def append_ticks(self, times_ms: Sequence[int], ticker: str) -> None:
        """Append a Tick at each of the given log times, in one transaction.

        For whoever owns the log's clock (a recording played in lock-step); times at or below the
        newest log time, or below the floor, are left out: the log holds what was to stand there.
        """
        with self.transaction():
            first_ms = max(self.end().log_time_ms + 1, self.floor_ms())
            ticks = [Tick(at_ms, ticker) for at_ms in times_ms if at_ms >= first_ms]
            self.db.executemany(
                "INSERT INTO log (stream, key, log_time_ms, value) VALUES (?, ?, ?, ?)",
                [(self._ids["ticks"], ticker, t.tick_at_ms, encode(t)) for t in ticks],
            )
        for _ in ticks:
            self.steps("append")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the only write lock; compute before, not inside: others wait meanwhile."""
        with _explained(self.path):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.steps("commit.before")
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise
        self.steps("commit.after")

    def write(self, records: Sequence[tuple[str, str, bytes]]) -> list[int]:
        """Insert (stream, key, bytes) inside a transaction; return their positions."""
        newest = self.end()
        log_time_ms = max(newest.log_time_ms, self.floor_ms(), self.clock())
        first = newest.position + 1
        ids = self._ids
        self.db.executemany(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?)",
            [
                (position, ids[stream], key, log_time_ms, value)
                for position, (stream, key, value) in enumerate(records, first)
            ],
        )
        return list(range(first, first + len(records)))

    def seal(self) -> int:
        """Promise, inside a transaction, that nothing more comes below the clock's time.

        Returns
        -------
        int
            The floor: every later append has this log time or a later one, so whatever stands
            below it is complete.
        """
        floor_ms = max(self.floor_ms(), self.clock())
        self.set_fact("floor_ms", floor_ms)
        return floor_ms

    # Reading

    def end(self) -> Row:
        """Return the newest record, without its bytes; position 0 where there is none."""
        row = self.db.execute(
            "SELECT position, stream, key, log_time_ms FROM log ORDER BY position DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return Row(0, "ticks", "", 0, b"")
        return Row(row[0], self._names[row[1]], row[2], row[3], b"")

    def floor_ms(self) -> int:
        """Return the log time below which nothing more comes, ms."""
        return int(self.fact("floor_ms"))

    def read(
        self,
        after: int,
        limit: int = _READ_LIMIT,
        streams: Iterable[str] | None = None,
        key: str | None = None,
    ) -> list[Row]:
        """Return records in the order of the log.

        Parameters
        ----------
        after : int
            Only records behind this position.
        limit : int
            At most so many.
        streams : iterable of str, optional
            Only these streams.
        key : str, optional
            Only this key.
        """
        where = "position > :after"
        if streams is not None:
            ids = [self._id(name) for name in streams]
            where += f" AND stream IN ({','.join(map(str, ids))})"
            if min(ids, default=0) >= _INDEXED_FROM:
                # SQLite takes a partial index only where its condition stands in the query.
                where += f" AND stream >= {_INDEXED_FROM}"
        if key is not None:
            where += " AND key = :key"
        query = f"SELECT * FROM log WHERE {where} ORDER BY position LIMIT :limit"  # noqa: S608
        values = {"after": after, "key": key, "limit": limit}
        names = self._names
        with _explained(self.path):
            rows = self.db.execute(query, values).fetchall()
        return [Row(r[0], names[r[1]], r[2], r[3], r[4]) for r in rows]

    def scan(self, *streams: str, after: int = 0, key: str | None = None) -> Iterator[Row]:
        """Yield all records of some streams (of all, when none is named), in the log's order."""
        while rows := self.read(after, streams=streams or None, key=key):
            yield from rows
            after = rows[-1].position

    def last(self, stream: str, count: int) -> list[Row]:
        """Return the newest records of a stream, oldest first."""
        indexed = f"AND stream >= {_INDEXED_FROM}" if stream in _INDEXED else ""
        rows = self.db.execute(
            f"SELECT * FROM log WHERE stream = ? {indexed} ORDER BY position DESC LIMIT ?",  # noqa: S608
            (self._id(stream), count),
        ).fetchall()
        return [Row(r[0], stream, r[2], r[3], r[4]) for r in reversed(rows)]

    def at(self, position: int) -> Row:
        """Return the record at a position.

        Raises
        ------
        LogUnavailable
            When there is none: it was deleted, or never there.
        """
        # Not by way of `read`, which builds its statement: 10 us instead of 13, for each decision
        # that is looked up again to close one of a million open windows.
        with _explained(self.path):
            row = self.db.execute("SELECT * FROM log WHERE position = ?", (position,)).fetchone()
        if row is None:
            problem = f"{self.path} has no record at position {position}"
            raise LogUnavailable(problem, "It was deleted, or the file is not whole")
        return Row(row[0], self._names[row[1]], row[2], row[3], row[4])

    def newest_log_time_ms(self, *, without_ticks: bool = False) -> int:
        """Return the newest log time, of any record or of any that is no Tick, ms; 0: none."""
        if not without_ticks:
            return self.end().log_time_ms
        row = self.db.execute(
            "SELECT log_time_ms FROM log WHERE stream <> ? ORDER BY position DESC LIMIT 1",
            (self._ids["ticks"],),
        ).fetchone()
        return int(row[0]) if row else 0

    def tail(self, *streams: str, key: str | None = None) -> EmbeddedTail:
        """Follow some streams from their present end."""
        return EmbeddedTail(self, streams, key)

    def complete_through_ms(self) -> int:
        """Return the newest log time, ms; 0: the log is empty."""
        return self.end().log_time_ms

    def counts(self) -> dict[str, int]:
        """Return the number of records of each stream."""
        rows = self.db.execute("SELECT stream, COUNT(*) FROM log GROUP BY stream").fetchall()
        found = {self._names[number]: count for number, count in rows}
        return {name: found.get(name, 0) for name in self._ids}

    def _id(self, stream: str) -> int:
        if stream not in self._ids:
            problem = f"there is no stream {stream!r}"
            raise UsageError(problem, f"There are {', '.join(self._ids)}")
        return self._ids[stream]

    # What the engine remembers

    def fact(self, name: str, default: Any = 0) -> Any:
        """Return a remembered value."""
        row = self.db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return default if row is None else row[0]

    def set_fact(self, name: str, value: Any) -> None:
        """Remember a value; inside a transaction it changes with the rest of it."""
        self.db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def bookmark(self, name: str) -> dict[tuple[str, int], int]:
        """Return the next position to read of each (stream, partition), as last set."""
        text = self.fact(f"bookmark.{name}", "[]")
        return {(stream, partition): place for stream, partition, place in json.loads(text)}

    def set_bookmark(self, name: str, places: dict[tuple[str, int], int]) -> None:
        """Remember how far a reader has come; inside a transaction it changes with the rest."""
        text = json.dumps([[*where, place] for where, place in sorted(places.items())])
        self.set_fact(f"bookmark.{name}", text)


class EmbeddedTail:
    """What comes from now on in some streams of the file.

    Parameters
    ----------
    log : EmbeddedLog
        The log.
    streams : tuple of str
        The streams; empty: all of them.
    key : str or None
        Only this key.
    """

    def __init__(self, log: EmbeddedLog, streams: tuple[str, ...], key: str | None) -> None:
        self._log = log
        self._streams = streams or None
        self._key = key
        self._through = log.end().position

    def poll(self, wait_s: float) -> list[Row]:
        """Return what has come, waiting at most so long for the first of it, seconds."""
        until_s = time.monotonic() + wait_s
        while True:
            rows = self._log.read(self._through, streams=self._streams, key=self._key)
            left_s = until_s - time.monotonic()
            if rows:
                self._through = rows[-1].position
            if rows or left_s <= 0.0:
                return rows
            time.sleep(min(left_s, _POLL_S))

    def close(self) -> None:
        """Stop following."""


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, which say what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "full" in text or "disk I/O" in text:
            problem = f"no room for {path} ({text})"
            raise LogFull(problem, "Free some space; nothing half written was kept") from error
        if "locked" in text or "busy" in text:
            problem = f"{path} is locked by another process"
            cure = "Wait for it, or find it with `fuser` and end it"
            raise LogUnavailable(problem, cure) from error
        problem = f"{path} cannot be used: {text}"
        raise LogUnavailable(problem, "Check that it is PHO's file and that it is whole") from error
    except OSError as error:
        problem = f"{path} cannot be used: {error}"
        raise LogUnavailable(problem, "Check the folder's place and its permissions") from error
