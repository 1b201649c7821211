"""The tables for analysts as files, made from the log at once: CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from connectors.tables_parquet import arrow_schema, require_pyarrow, write_file
from connectors.tables_schema import TABLES, Row, Table, Value
from connectors.tables_sql import time_text
from schemas.errors import ResourceError, UsageError
from serving.tables_opening import AnyTables

FORMATS = ("csv", "parquet")
ALL = "all"
# A spreadsheet takes a text that begins so for a formula, and runs it: a language or a greeting
# comes from pages and files that others write.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def chosen_tables(name: str) -> list[Table]:
    """Return the tables of a name; of ``all`` every one.

    Raises
    ------
    UsageError
        There is none of that name.
    """
    if name == ALL:
        return list(TABLES.values())
    if name not in TABLES:
        problem = f"--table {name} is none of ours"
        raise UsageError(problem, f"Use {', '.join(TABLES)}, or all")
    return [TABLES[name]]


def write_tables(
    source: AnyTables, tables: Sequence[Table], form: str, to: Path
) -> dict[Path, int]:
    """Write tables as files; return the rows of each.

    Parameters
    ----------
    source : tables
        Where the rows are.
    tables : sequence of Table
        Which.
    form : str
        ``csv`` or ``parquet``.
    to : Path
        The file of one table; the folder of several, which is made.

    Raises
    ------
    ResourceError
        pyarrow is not installed, or a file cannot be written.
    """
    if form == "parquet":
        require_pyarrow()
    several = len(tables) > 1
    written = {}
    try:
        if several:
            to.mkdir(parents=True, exist_ok=True)
        for table in tables:
            path = to / f"{table.name}.{form}" if several else to
            written[path] = _WRITERS[form](path, table, source.rows(table))
    except OSError as error:
        problem = f"{to} cannot be written: {error.strerror or error}"
        raise ResourceError(problem, "Check the place, its permissions and its room") from error
    return written


def write_csv(path: Path, table: Table, rows: Iterable[Row]) -> int:
    """Write rows as CSV (RFC 4180, UTF-8 with a mark, so that Excel reads it so); return how many.

    Times are ``2026-11-21 17:03:11.250`` UTC, flags ``true`` and ``false``; what is not known is
    empty. A text that a spreadsheet would run as a formula gets a ``'`` before it.
    """
    count = 0
    kinds = [column.kind for column in table.columns]
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.names)
        for row in rows:
            pairs = zip(kinds, row, strict=True)
            writer.writerow([_cell(kind, value) for kind, value in pairs])
            count += 1
    temporary.replace(path)
    return count


def _cell(kind: str, value: Value) -> Value:
    if value is None:
        return ""
    if kind == "time":
        return time_text(int(value))
    if kind == "flag":
        return "true" if value else "false"
    if kind == "text" and str(value).startswith(_FORMULA):
        return f"'{value}"
    return value


def _write_parquet(path: Path, table: Table, rows: Iterable[Row]) -> int:
    count = write_file(path, table, rows)
    if not count:
        from pyarrow import parquet

        # A table without rows still has its columns.
        parquet.write_table(arrow_schema(table).empty_table(), path)
    return count


_WRITERS = {"csv": write_csv, "parquet": _write_parquet}
