"""The tables as Parquet files, one for each day, for tools that read folders. Needs pyarrow.

::

    OUT/visits/2026-11-21.parquet       the rows of a UTC day; a day that changes is written anew
    OUT/manifest.json                   what there is, and the place up to which the log was read
    OUT/.pho/tables.db                  what the consumer works with: as `tables_sqlite`

Files are replaced in one go, so a reader sees a day as it was or as it is. A day that changed is
marked in the same transaction as its rows, and the mark goes when its file is durable: a consumer
killed anywhere writes that file again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from connectors.archive_parts import sync_folder
from connectors.tables_contract import Batch, Place, Seen, Steps
from connectors.tables_schema import SCHEMA_VERSION, TABLES, Row, Table
from connectors.tables_sqlite import FILE_NAME, SqliteTables
from schemas.errors import ResourceError, TablesDown, TablesUnavailable

MANIFEST = "manifest.json"
_WORK = ".pho"
_ROWS_TOGETHER = 20_000
_CURE = "Install the extra: pip install 'pho[tables]'"


def require_pyarrow() -> None:
    """Refuse Parquet where pyarrow is not installed.

    Raises
    ------
    ResourceError
        Names the extra.
    """
    if find_spec("pyarrow") is None:
        problem = "Parquet needs pyarrow, which is not installed"
        raise ResourceError(problem, _CURE)


class ParquetTables:
    """The tables in a folder.

    Parameters
    ----------
    folder : Path
        Where; made if it is not there.
    reads_only : bool
        True: nothing is made, and a writer is not in the way.

    Raises
    ------
    ResourceError
        pyarrow is not installed.
    UsageError, TablesUnavailable, EngineBusy
        As `SqliteTables`.
    """

    refresh_every_s = 10.0
    """Today's files are written anew so often at most, seconds."""

    def __init__(self, folder: Path, *, reads_only: bool = False) -> None:
        require_pyarrow()
        self.folder = folder
        self.name = str(folder)
        self._work = SqliteTables(folder / _WORK / FILE_NAME, exports=True, reads_only=reads_only)

    @property
    def steps(self) -> Steps:
        """Called with the name of each step: crash tests end the process there."""
        return self._work.steps

    @steps.setter
    def steps(self, steps: Steps) -> None:
        self._work.steps = steps

    def places(self) -> dict[Place, Seen]:
        """Return how far the log is read."""
        return self._work.places()

    def state(self) -> bytes | None:
        """Return what the history needs to go on."""
        return self._work.state()

    def erased_hashes(self) -> set[str]:
        """Return the hashes of everybody who was taken out."""
        return self._work.erased_hashes()

    def stale_days(self, name: str) -> list[str]:
        """Return the days of a table whose files are not what the log says, yet."""
        return sorted({*self._work.stale_days(name), *self._work.stale_days(f"{name}.file")})

    def known_outcomes(self, ids: Iterable[str]) -> set[str]:
        """Return those of some decisions that have an outcome."""
        return self._work.known_outcomes(ids)

    def write(self, batch: Batch) -> None:
        """Write a batch; the files follow with `refresh`."""
        self._work.write(batch)

    def refresh(self) -> int:
        """Write the files of the days that changed; return how many."""
        self._work.refresh()
        stale = [
            (table, day)
            for table in TABLES.values()
            for day in self._work.stale_days(f"{table.name}.file")
        ]
        if not stale:
            return 0
        places = self._work.places()
        for table, day in stale:
            self._write_day(table, day)
            self.steps("file")
        with explained(self.folder):
            for folder in {self.folder / table.name for table, _ in stale}:
                sync_folder(folder)
        self._save_manifest(places)
        self.steps("manifest")
        self._work.forget_stale([(f"{table.name}.file", day) for table, day in stale])
        return len(stale)

    def _write_day(self, table: Table, day: str) -> None:
        path = self.folder / table.name / f"{day}.parquet"
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not write_file(path, table, self._work.rows(table, day)):
                path.unlink(missing_ok=True)

    def _save_manifest(self, places: dict[Place, Seen]) -> None:
        days = {name: self._work.rows_by_day(table) for name, table in TABLES.items()}
        told = {
            "format": 1,
            "schema_version": SCHEMA_VERSION,
            "places": [[*place, seen.position] for place, seen in sorted(places.items())],
            "tables": {
                name: {"rows": sum(counts.values()), "days": counts}
                for name, counts in days.items()
            },
        }
        path = self.folder / MANIFEST
        temporary = self.folder / f".{MANIFEST}.tmp"
        with explained(path):
            with temporary.open("w", encoding="utf-8") as file:
                file.write(json.dumps(told, indent=1))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(self.folder)

    # Reading

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let what is remembered be of one moment; files are replaced one by one."""
        with self._work.snapshot():
            yield

    def rows(self, table: Table, day: str | None = None) -> Iterator[Row]:
        """Yield the rows of a table's files, or of one of its days, in the order of their keys."""
        pattern = "*.parquet" if day is None else f"{day}.parquet"
        found: list[Row] = []
        for path in sorted((self.folder / table.name).glob(pattern)):
            with explained(path):
                found += read_file(path, table)
        yield from sorted(found, key=table.key_of)

    def counts(self) -> dict[str, int]:
        """Return the number of rows in the files of each table."""
        from pyarrow import parquet

        found = {}
        for name in TABLES:
            with explained(self.folder / name):
                files = sorted((self.folder / name).glob("*.parquet"))
                found[name] = sum(parquet.read_metadata(path).num_rows for path in files)
        return found

    def close(self) -> None:
        """Let go of it."""
        self._work.close()


def write_file(path: Path, table: Table, rows: Iterable[Row]) -> int:
    """Write rows into a Parquet file, durably and in one go; return how many.

    Where there are none, nothing is written.
    """
    from pyarrow import parquet

    temporary = path.with_name(f".{path.name}.tmp")
    schema, rest, count = arrow_schema(table), iter(rows), 0
    writer = None
    try:
        while some := list(islice(rest, _ROWS_TOGETHER)):
            if writer is None:
                writer = parquet.ParquetWriter(temporary, schema, compression="zstd")
            writer.write_table(_arrow_table(table, schema, some))
            count += len(some)
    except BaseException:
        if writer is not None:
            writer.close()
        temporary.unlink(missing_ok=True)
        raise
    if writer is not None:
        writer.close()
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    return count


def read_file(path: Path, table: Table) -> list[Row]:
    """Return the rows of a Parquet file."""
    import pyarrow
    from pyarrow import parquet

    read = parquet.ParquetFile(path).read(columns=list(table.names))
    columns = []
    for column in table.columns:
        array = read.column(column.name)
        if column.kind == "time":
            array = array.cast(pyarrow.int64())
        elif column.kind == "day":
            array = array.cast(pyarrow.string())
        columns.append(array.to_pylist())
    return list(zip(*columns, strict=True))


@cache
def arrow_schema(table: Table) -> Any:
    """Return the columns of a table as Arrow names them."""
    import pyarrow

    types = {
        "text": pyarrow.string(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "flag": pyarrow.bool_(),
        "time": pyarrow.timestamp("ms", tz="UTC"),
        "day": pyarrow.date32(),
    }
    fields = [
        pyarrow.field(column.name, types[column.kind], nullable=column.name not in table.key)
        for column in table.columns
    ]
    return pyarrow.schema(fields, metadata={"pho.schema_version": str(SCHEMA_VERSION)})


def _arrow_table(table: Table, schema: Any, rows: list[Row]) -> Any:
    import pyarrow

    arrays = []
    for field, column, values in zip(schema, table.columns, zip(*rows, strict=True), strict=True):
        if column.kind == "time":
            array = pyarrow.array(values, pyarrow.int64()).cast(field.type)
        elif column.kind == "day":
            array = pyarrow.array(values, pyarrow.string()).cast(field.type)
        else:
            array = pyarrow.array(values, field.type)
        arrays.append(array)
    return pyarrow.Table.from_arrays(arrays, schema=schema)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of the disk, and of torn files, into ours."""
    import pyarrow

    try:
        yield
    except OSError as error:  # pyarrow's own errors of files are among them
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            problem = f"no room for {path}"
            cure = "Free some space: what is whole stays, the rest is written again"
            raise TablesDown(problem, cure) from error
        problem = f"{path} cannot be used: {error.strerror or error}"
        raise TablesUnavailable(problem, "Check the folder's place and its permissions") from error
    except pyarrow.ArrowException as error:
        problem = f"{path} cannot be read: {error}"
        cure = "Delete the folder of these tables: `pho tables` makes it again from the log"
        raise TablesUnavailable(problem, cure) from error
