"""The tables in a SQLite file of their own, which readers open without being in anybody's way."""

from __future__ import annotations

import errno
import fcntl
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from connectors.tables_contract import Batch
from connectors.tables_schema import Kind, Value
from connectors.tables_sql import SqlTables
from schemas.errors import EngineBusy, TablesDown, TablesUnavailable

FILE_NAME = "tables.db"
_BUSY_TIMEOUT_MS = 10_000
_CHECKPOINT_WAIT_MS = 100
_READ_TOGETHER = 1_000
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - times of the file are UTC, and do not say so
_MILLISECOND = timedelta(milliseconds=1)


class SqliteTables(SqlTables):
    """The tables in a file.

    Deleted rows are overwritten (secure_delete), and after somebody was forgotten the file is
    written anew: SQLite leaves bytes in the gaps of pages it split.

    Parameters
    ----------
    path : Path
        The file; made with its folder if it is not there.
    exports : bool
        As in `SqlTables`.
    reads_only : bool
        True: nothing is made, and a writer is not in the way.

    Raises
    ------
    UsageError
        The file holds other tables of these names.
    TablesUnavailable
        It cannot be used, belongs to a newer release, or there is no room for it.
    EngineBusy
        Another process writes these tables.
    """

    types = 0
    bytes_type = "blob"

    def __init__(self, path: Path, *, exports: bool = False, reads_only: bool = False) -> None:
        super().__init__(str(path), exports=exports)
        self.path = path
        if reads_only and not path.is_file():
            problem = f"{path} is not there"
            raise TablesUnavailable(problem, "Make the tables first: pho tables")
        with ExitStack() as opened:
            if not reads_only:
                opened.enter_context(take_lock(path.with_name(f"{path.name}.lock")))
            with self._explained():
                self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            opened.enter_context(closing(self._db))
            self._open(reads_only=reads_only)
            self._opened = opened.pop_all()

    def _open(self, *, reads_only: bool) -> None:
        with self._explained():
            self.run(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            if reads_only:
                self.run("PRAGMA query_only = ON")
                self.check_version()
                return
            self.run("PRAGMA journal_mode = WAL")
            self.run("PRAGMA synchronous = FULL")
            self.run("PRAGMA secure_delete = ON")
        self.prepare()
        self.finish_erasure()

    def run(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query, and return its rows."""
        return self._db.execute(query, values).fetchall()

    def run_many(self, query: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each of some rows."""
        self._db.executemany(query, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all or nothing of what follows."""
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let everything that is read here be of one moment."""
        with self._explained():
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("ROLLBACK")

    def among(self, column: str) -> str:
        """Return the condition that a column is among the texts of one value."""
        return f"{column} IN (SELECT value FROM json_each(?))"  # noqa: S608 - a column of ours

    def texts(self, values: Iterable[str]) -> str:
        """Return texts as one value."""
        return json.dumps(list(values))

    def has_table(self, name: str) -> bool:
        """Whether the file has a table."""
        return bool(self.run("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)))

    def read(self, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query."""
        with self._explained():
            cursor = self._db.execute(query, values)
            try:
                while rows := cursor.fetchmany(_READ_TOGETHER):
                    yield from rows
            finally:
                cursor.close()

    def from_database(self, kind: Kind, value: Any) -> Value:
        """Return a value of the file as rows have it."""
        if kind == "time":
            return time_of(value)
        if kind == "flag":
            return bool(value)
        known: Value = value
        return known

    def write(self, batch: Batch) -> None:
        """Write a batch: all of it, or nothing."""
        with self._explained():
            if batch.erased is not None:
                # Before anything is deleted: a process that ends in between finishes it next time.
                self.run("INSERT OR REPLACE INTO pho_meta VALUES ('erasure', 'unfinished')")
            super().write(batch)
        if batch.erased is not None:
            self.finish_erasure()

    def refresh(self) -> int:
        """Count the days anew that changed; finish an erasure that a reader was in the way of."""
        days = super().refresh()
        self.finish_erasure()
        return days

    def finish_erasure(self) -> bool:
        """Write the file anew where somebody was forgotten; False: a reader is in the way, yet.

        Raises
        ------
        TablesDown
            A file of the same size must fit beside it meanwhile.
        """
        with self._explained():
            found = self.run("SELECT value FROM pho_meta WHERE name = 'erasure'")
            if not found:
                return True
            if found[0][0] != "vacuumed":
                # greetings_daily too, before its old rows are left in the file's gaps.
                super().refresh()
                self.run("VACUUM")
                self.run("UPDATE pho_meta SET value = 'vacuumed' WHERE name = 'erasure'")
            # A dashboard that holds an old moment must not hold up the consumer, too.
            self.run(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT_MS}")
            busy = self.run("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]
            self.run(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            if busy:
                return False
            self.run("DELETE FROM pho_meta WHERE name = 'erasure'")
        return True

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise _ours(self.path, error) from error


def _ours(path: Path, error: sqlite3.DatabaseError) -> TablesUnavailable:
    text = str(error)
    if "full" in text or "disk I/O" in text:
        cure = "Free some space and start again: nothing half written was kept"
        return TablesDown(f"no room for {path} ({text})", cure)
    if "locked" in text or "busy" in text:
        cure = "Close what writes to it, then start again: nothing is lost"
        return TablesDown(f"{path} is locked by another process", cure)
    cure = "Check that it is a file of PHO's tables; deleted, it is made again from the log"
    return TablesUnavailable(f"{path} cannot be used: {text}", cure)


def time_of(text: str) -> int:
    """Return a time as rows have it, ms, of ``2026-11-21 17:03:11.250``."""
    return (datetime.fromisoformat(text) - _EPOCH) // _MILLISECOND


def take_lock(path: Path) -> IO[bytes]:
    """Keep every other writer away until the file is closed.

    Raises
    ------
    EngineBusy
        When there is one.
    TablesUnavailable
        When the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("ab")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = f"no room for {path}"
            raise TablesDown(problem, "Free some space") from error
        problem = f"{path} cannot be written: {error.strerror or error}"
        raise TablesUnavailable(problem, "Check the folder's place and its permissions") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        problem = f"another process keeps the tables in {path.parent}"
        raise EngineBusy(problem, "Let it go on, or end it first") from error
    return lock
