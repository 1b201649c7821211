"""Opens the tables that the settings name, and what is fed into them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from connectors.erasure_key import read_key
from connectors.logs import Log
from connectors.persons import Erased
from connectors.tables_contract import Place, Steps
from connectors.tables_feed import Fed, Feed
from connectors.tables_parquet import ParquetTables
from connectors.tables_sql import SqlTables
from connectors.tables_sqlite import FILE_NAME, SqliteTables
from engines.policy_history import PolicyHistory
from schemas.errors import ResourceError, UsageError
from serving.forgotten import key_path
from serving.settings import Settings
from serving.settings_tables import KINDS

FOLDER = "tables"
_POSTGRES_CURE = "Install the extra: pip install 'pho[tables]'"

AnyTables = SqlTables | ParquetTables
"""Whatever is opened."""


def open_tables(
    settings: Settings,
    kind: str | None = None,
    place: Path | None = None,
    *,
    reads_only: bool = False,
) -> AnyTables:
    """Open the tables.

    Parameters
    ----------
    settings : Settings
        The table [tables].
    kind : str, optional
        ``sqlite``, ``parquet`` or ``postgres``, instead of tables.to.
    place : Path, optional
        File or folder, instead of tables.sqlite or tables.parquet.
    reads_only : bool
        True: they must be there, and whoever writes them is not in the way.

    Raises
    ------
    UsageError
        There is no such kind, or it takes no place.
    ResourceError
        A package is not installed, the tables cannot be reached, or another process writes them.
    """
    table = settings.tables
    kind = kind or table.to
    if kind not in KINDS:
        problem = f"--to {kind} is none of ours"
        raise UsageError(problem, f"Use {', '.join(KINDS)}")
    if kind == "sqlite":
        path = place or Path(table.sqlite or settings.data / FILE_NAME)
        if path.is_dir():
            problem = f"{path} is a folder"
            raise UsageError(problem, "Name a file, such as tables.db; Parquet takes a folder")
        return SqliteTables(path, reads_only=reads_only)
    if kind == "parquet":
        folder = place or Path(table.parquet or settings.data / FOLDER)
        return ParquetTables(folder, reads_only=reads_only)
    if place is not None:
        problem = "--out names a file or a folder, and Postgres is neither"
        raise UsageError(problem, "Set PHO_TABLES__POSTGRES, such as 'host=db dbname=shop'")
    if find_spec("psycopg") is None:
        problem = "Postgres needs psycopg, which is not installed"
        raise ResourceError(problem, _POSTGRES_CURE)
    from connectors.tables_postgres import PostgresTables

    return PostgresTables(table.postgres, table.schema, reads_only=reads_only)


def feed_for(
    settings: Settings,
    log: Log,
    tables: AnyTables,
    steps: Steps = lambda _name: None,
    *,
    fed: Fed | None = None,
    through: Mapping[Place, int] | None = None,
) -> Feed:
    """Return what brings a log into tables; as in `Feed`."""
    return Feed(log, tables, PolicyHistory, erased_of(settings), steps, fed=fed, through=through)


def erased_of(settings: Settings) -> Callable[[Set[str]], Erased]:
    """Return what tells who was forgotten, of the hashes in a log."""

    def known(hashes: Set[str]) -> Erased:
        if not hashes:
            return Erased(b"", ())
        key = read_key(key_path(settings))
        if key is None:
            problem = f"{len(hashes)} ids were forgotten, and {key_path(settings)} is not here"
            cure = "Copy the key from where `pho forget` ran, and name it: log.erasure_key"
            raise ResourceError(problem, cure)
        return Erased(key, hashes)

    return known


@contextmanager
def made_anew(
    settings: Settings, log: Log, through: Mapping[Place, int] | None = None
) -> Iterator[SqliteTables]:
    """Make the tables of a log in a place of their own, which is gone afterwards.

    Parameters
    ----------
    settings : Settings
        For who was forgotten.
    log : Log
        The log.
    through : mapping, optional
        The last position of each place that counts; by default all.
    """
    with tempfile.TemporaryDirectory(prefix="pho-tables-") as folder:
        tables = SqliteTables(Path(folder) / FILE_NAME)
        try:
            feed_for(settings, log, tables, through=through).run()
            yield tables
        finally:
            tables.close()
