"""The tables in a Postgres database, in a schema of their own. Needs psycopg (extra: tables)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from connectors.tables_schema import Kind, Value
from connectors.tables_sql import SqlTables
from schemas.errors import EngineBusy, SettingsError, TablesDown, TablesUnavailable

if TYPE_CHECKING:
    import psycopg

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_READ_TOGETHER = 2_000
_LOCK_WAIT_S = 5.0
_LOCK_STEP_S = 0.2
# A server that is gone without a word must be noticed, or a consumer would wait for hours.
_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# Classes and codes of SQLSTATE that another try may find mended: connections, resources (a full
# disk), operator's doings (a restart), a standby that is read only, serialization and deadlock.
_PASSING = ("08", "53", "57", "25006", "40", "55P03")
_FOR_GOOD = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "could not translate host name",
    "root certificate",
    "certificate verify failed",
)


class PostgresTables(SqlTables):
    """The tables in a schema of a database.

    Parameters
    ----------
    dsn : str
        Where: ``host=db dbname=shop user=pho``, or an address ``postgresql://…``.
    schema : str
        The schema; made where it is not there.
    reads_only : bool
        True: nothing is made, and a writer is not in the way.

    Raises
    ------
    SettingsError
        The address is none.
    TablesDown
        The server is away.
    TablesUnavailable
        It refuses, or another release made the tables.
    UsageError
        The schema holds other tables of these names.
    EngineBusy
        Another process writes these tables.
    """

    types = 2
    bytes_type = "bytea"
    zone = "+00"
    bytewise = ' COLLATE "C"'

    def __init__(self, dsn: str, schema: str = "pho", *, reads_only: bool = False) -> None:
        told = _told(dsn)
        host, database = told.get("host", "localhost"), told.get("dbname", "")
        # Never the whole address: it may hold a password.
        super().__init__(f"{host}/{database} (schema {schema})")
        self.schema = schema
        self._db = self._connect(told)
        try:
            with self._explained():
                self._open(reads_only=reads_only)
            self._prepare(reads_only=reads_only)
        except BaseException:
            self.close()
            raise

    def _connect(self, told: dict[str, str]) -> psycopg.Connection[tuple[Any, ...]]:
        import psycopg

        options: dict[str, Any] = _PATIENCE | told | {"application_name": "pho tables"}
        try:
            return psycopg.connect(**options, autocommit=True)
        except psycopg.Error as error:
            text = _line(error)
            problem = f"Postgres at {self.name} cannot be reached: {text}"
            if any(each in text for each in _FOR_GOOD):
                cure = "Mend tables.postgres (PHO_TABLES__POSTGRES), or what the server allows"
                raise TablesUnavailable(problem, cure) from error
            raise TablesDown(problem, "Start it, or mend tables.postgres") from error

    def _open(self, *, reads_only: bool) -> None:
        from psycopg.sql import SQL, Identifier

        self.run("SET TIME ZONE 'UTC'")
        found = self.run("SELECT 1 FROM pg_namespace WHERE nspname = ?", (self.schema,))
        if not found and not reads_only:
            self._db.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(self.schema)))
        self._db.execute(SQL("SET search_path TO {}").format(Identifier(self.schema)))

    def _prepare(self, *, reads_only: bool) -> None:
        if reads_only:
            self.check_version()
            return
        # Held by the connection: a consumer that was killed loses it with its socket, which the
        # server may notice a moment later.
        until_s = time.monotonic() + _LOCK_WAIT_S
        query = "SELECT pg_try_advisory_lock(hashtext('pho tables'), hashtext(?))"
        while not self.run(query, (self.schema,))[0][0]:
            if time.monotonic() >= until_s:
                problem = f"another process keeps the tables in {self.name}"
                raise EngineBusy(problem, "Let it go on, or end it first")
            time.sleep(_LOCK_STEP_S)
        self.prepare()

    def run(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query, and return its rows, if it has any."""
        with self._explained():
            cursor = self._db.execute(_ours(query), values or None)
            return cursor.fetchall() if cursor.description else []

    def run_many(self, query: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each of some rows."""
        if rows:
            with self._explained(), self._db.cursor() as cursor:
                cursor.executemany(_ours(query), rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all or nothing of what follows."""
        with self._explained(), self._db.transaction():
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let everything that is read here be of one moment."""
        with self._explained(), self._db.transaction():
            self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    def among(self, column: str) -> str:
        """Return the condition that a column is among the texts of one value."""
        return f"{column} = ANY(?)"

    def texts(self, values: Iterable[str]) -> list[str]:
        """Return texts as one value."""
        return list(values)

    def has_table(self, name: str) -> bool:
        """Whether the schema has a table."""
        query = (
            "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = ? AND c.relname = ?"
        )
        return bool(self.run(query, (self.schema, name)))

    def read(self, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query, some thousand at a time."""
        with self._explained(), self._db.transaction(), self._db.cursor(name="pho_rows") as cursor:
            cursor.itersize = _READ_TOGETHER
            yield from cursor.execute(_ours(query), values or None)

    def from_database(self, kind: Kind, value: Any) -> Value:
        """Return a value of the database as rows have it."""
        if kind == "time":
            return int((value - _EPOCH) // _MILLISECOND)
        if kind == "day":
            return str(value)
        known: Value = value
        return known

    def close(self) -> None:
        """Close the connection."""
        import psycopg

        with suppress(psycopg.Error):
            self._db.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            raise self._told_of(error) from error

    def _told_of(self, error: psycopg.Error) -> TablesUnavailable:
        state = error.sqlstate or ""
        problem = f"Postgres at {self.name}: {_line(error)}"
        if state == "42501":
            cure = (
                f"GRANT CREATE, USAGE ON SCHEMA {self.schema}, or CREATE ON DATABASE, to its user"
            )
            return TablesUnavailable(problem, cure)
        if not state or state.startswith(_PASSING):
            return TablesDown(problem, "Nothing half written was kept: it goes on when it is back")
        cure = f"Were the tables altered? DROP SCHEMA {self.schema} CASCADE makes room for new ones"
        return TablesUnavailable(problem, cure)


def _ours(query: str) -> Any:
    return query.replace("?", "%s")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip("?. ")


def _told(dsn: str) -> dict[str, str]:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    if not dsn.strip():
        problem = "no Postgres is named"
        cure = "Set PHO_TABLES__POSTGRES, such as 'host=db dbname=shop user=pho password=…'"
        raise SettingsError(problem, cure)
    try:
        return {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    except psycopg.Error:
        problem = "tables.postgres is no address of a Postgres"
        cure = "Write host=db dbname=shop user=pho, or postgresql://pho@db/shop"
        # Neither repeated nor chained: libpq quotes what it cannot read, which may be a password.
        raise SettingsError(problem, cure) from None
