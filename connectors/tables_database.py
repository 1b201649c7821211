"""A database that speaks SQL: what it must bring for the tables, and how these are made in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from connectors.tables_schema import SCHEMA_VERSION, TABLES, TYPES, Kind, Table, Value
from schemas.errors import TablesUnavailable, UsageError

_OWN = {
    "pho_meta": "name text NOT NULL PRIMARY KEY, value text NOT NULL",
    "pho_places": "stream text NOT NULL, part bigint NOT NULL, position text NOT NULL, "
    "log_time_ms bigint NOT NULL, crc bigint NOT NULL, PRIMARY KEY (stream, part)",
    "pho_stale": "name text NOT NULL, day text NOT NULL, PRIMARY KEY (name, day)",
    "pho_erased": "id_hash text NOT NULL PRIMARY KEY",
    "pho_states": "name text NOT NULL PRIMARY KEY, data {bytes} NOT NULL",
}
"""What the consumer remembers, beside the tables."""


class SqlDatabase(ABC):
    """A database with the tables, or without them yet.

    Parameters
    ----------
    name : str
        Where it is, for a person to read.
    """

    types: int
    """The place of this database's types in `TYPES`."""
    bytes_type: str
    """Its type for bytes."""

    def __init__(self, name: str) -> None:
        self.name = name

    # What a database must bring

    @abstractmethod
    def run(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query with ? for its values, and return its rows, if it has any."""

    @abstractmethod
    def run_many(self, query: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each of some rows."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """Do all or nothing of what follows; errors are ours."""

    @abstractmethod
    def snapshot(self) -> AbstractContextManager[None]:
        """Let everything that is read inside be of one moment."""

    @abstractmethod
    def among(self, column: str) -> str:
        """Return the condition that a column is among the texts of one value."""

    @abstractmethod
    def texts(self, values: Iterable[str]) -> Any:
        """Return texts as the one value that `among` takes."""

    @abstractmethod
    def has_table(self, name: str) -> bool:
        """Whether the database has a table."""

    @abstractmethod
    def read(self, query: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query without holding all of them."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    @abstractmethod
    def from_database(self, kind: Kind, value: Any) -> Value:
        """Return a value of the database as rows have it."""

    # Making the tables

    def prepare(self) -> None:
        """Make the tables where there are none.

        Raises
        ------
        UsageError
            Something else stands under their names.
        TablesUnavailable
            A newer release made them.
        """
        with self.transaction():
            if self.has_table("pho_meta"):
                self.check_version()
                return
            foreign = [name for name in TABLES if self.has_table(name)]
            if foreign:
                problem = f"{self.name} has a table {foreign[0]} that PHO did not make"
                raise UsageError(problem, "Name another place: docs/tables.md says how")
            for name, columns in _OWN.items():
                self.run(f"CREATE TABLE {name} ({columns.format(bytes=self.bytes_type)})")
            for table in TABLES.values():
                self._create(table)
            version = ("schema_version", str(SCHEMA_VERSION))
            self.run("INSERT INTO pho_meta VALUES (?, ?)", version)

    def _create(self, table: Table) -> None:
        told = [
            f"{column.name} {TYPES[column.kind][self.types]}"
            + (" NOT NULL" if column.name in (*table.key, "day") else "")
            for column in table.columns
        ]
        key = ", ".join(table.key)
        self.run(f"CREATE TABLE {table.name} ({', '.join(told)}, PRIMARY KEY ({key}))")
        if table.key[0] != "day":
            self.run(f"CREATE INDEX {table.name}_by_day ON {table.name} (day)")

    def check_version(self) -> None:
        """Refuse tables that this release does not know.

        Raises
        ------
        TablesUnavailable
            There are none, or another release made them.
        """
        if not self.has_table("pho_meta"):
            problem = f"{self.name} holds no tables of PHO"
            raise TablesUnavailable(problem, "Make them first: pho tables")
        found = self.run("SELECT value FROM pho_meta WHERE name = 'schema_version'")
        version = int(found[0][0]) if found else 0
        if version > SCHEMA_VERSION:
            problem = f"{self.name} has tables of schema {version}, this release knows "
            problem += f"{SCHEMA_VERSION}"
            raise TablesUnavailable(
                problem, "Use the release of PHO that made them, or a newer one"
            )
        if version < SCHEMA_VERSION:
            problem = f"{self.name} has tables of schema {version}, this release makes "
            problem += f"{SCHEMA_VERSION}"
            raise TablesUnavailable(
                problem, "Drop them: `pho tables` makes them again from the log"
            )
