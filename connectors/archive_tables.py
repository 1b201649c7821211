"""The archive for analysts: each record a Parquet table, its fields as columns.

Columns ``row_stream``, ``row_partition``, ``row_position``, ``row_key``, ``row_log_time_ms`` say
where a record stood; the others are the record's fields under their names, nested ones as structs
and lists. Enumerations are text, bytes are base64 text. What does not decode stands in the table
``Unreadable`` with its error. Needs pyarrow; without it an archive has no tables.
"""

from __future__ import annotations

import io
from collections import defaultdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from connectors.archive_parts import Part, day_of, explained, read_part, sync_folder
from connectors.logs import Row
from schemas.codec import decode
from schemas.derive import avro_schema
from schemas.errors import RecordError
from schemas.streams import RECORDS

UNREADABLE = "Unreadable"
_BATCH_ROWS = 5_000
_ENCODE = msgspec.json.Encoder().encode

# pyarrow is an extra, imported where it is used.


def can_write() -> bool:
    """Whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def table_path(record: str, part: Part) -> Path:
    """Return where the table of a part stands, from the archive's folder."""
    name = f"{part.stream}-{part.partition}-{part.first}.parquet"
    return Path(f"record={record}") / f"day={day_of(part.first_ms)}" / name


def write(archive: Path, source: Path, part: Part) -> None:
    """Write the tables of a part: durable and under their names on return.

    Parameters
    ----------
    archive : Path
        The archive's folder.
    source : Path
        The part's file, still under its temporary name: tables come first, so that a part which
        has its name has them.
    part : Part
        What it holds.
    """
    tables = _Tables(archive, part)
    try:
        for row in read_part(source):
            tables.add(row)
        tables.publish()
    finally:
        tables.abandon()


class _Tables:
    """The tables one part becomes: usually one, several where a stream carries several records."""

    def __init__(self, archive: Path, part: Part) -> None:
        self._archive = archive
        self._part = part
        self._lines: dict[str, list[bytes]] = defaultdict(list)
        self._writers: dict[str, tuple[Any, Path, Path]] = {}

    def add(self, row: Row) -> None:
        place = {
            "row_stream": row.stream,
            "row_partition": row.partition,
            "row_position": row.position,
            "row_key": row.key,
            "row_log_time_ms": row.log_time_ms,
        }
        try:
            value = decode(row.value)
            record = type(value).__name__
            line = _ENCODE(place)[:-1] + b"," + _ENCODE(value)[1:]
        except RecordError as error:
            record = UNREADABLE
            line = _ENCODE({**place, "error": str(error), "value": row.value})
        lines = self._lines[record]
        lines.append(line)
        if len(lines) >= _BATCH_ROWS:
            self._write(record)

    def _write(self, record: str) -> None:
        from pyarrow import json as arrow_json

        # Through JSON, which msgspec writes and Arrow parses in C: 15 us a row, where building
        # Arrow arrays from Python objects takes 150.
        text = b"\n".join(self._lines.pop(record))
        schema = arrow_schema(record)
        table = arrow_json.read_json(
            io.BytesIO(text),
            arrow_json.ReadOptions(block_size=len(text) + 1),
            arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        self._writer(record, schema).write_table(table)

    def _writer(self, record: str, schema: Any) -> Any:
        from pyarrow import parquet

        if record not in self._writers:
            path = self._archive / table_path(record, self._part)
            temporary = path.with_name(f".{path.name}.tmp")
            with explained(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = parquet.ParquetWriter(temporary, schema, compression="zstd")
            self._writers[record] = (writer, temporary, path)
        return self._writers[record][0]

    def publish(self) -> None:
        for record in list(self._lines):
            self._write(record)
        for writer, temporary, path in self._writers.values():
            with explained(path):
                writer.close()
                temporary.replace(path)
                sync_folder(path.parent)

    def abandon(self) -> None:
        for writer, temporary, _ in self._writers.values():
            writer.close()
            temporary.unlink(missing_ok=True)


@cache
def arrow_schema(record: str) -> Any:
    """Return the columns of a record's table.

    Parameters
    ----------
    record : str
        Name of a record, or ``Unreadable``.
    """
    import pyarrow

    columns = [
        ("row_stream", pyarrow.string()),
        ("row_partition", pyarrow.int32()),
        ("row_position", pyarrow.int64()),
        ("row_key", pyarrow.string()),
        ("row_log_time_ms", pyarrow.int64()),
    ]
    if record == UNREADABLE:
        columns += [("error", pyarrow.string()), ("value", pyarrow.string())]
    else:
        known: dict[str, Any] = {}
        struct = _arrow_type(avro_schema(RECORDS[record]), known)
        columns += [(field.name, field.type) for field in struct]
    return pyarrow.schema(columns)


def _arrow_type(schema: Any, known: dict[str, Any]) -> Any:
    import pyarrow

    plain = {
        "string": pyarrow.string(),
        "bytes": pyarrow.string(),
        "long": pyarrow.int64(),
        "double": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
    }
    if isinstance(schema, str):
        return plain.get(schema) or known[schema]
    if isinstance(schema, list):
        return _arrow_type(schema[1], known)  # ["null", what it is]: columns may lack values
    if schema["type"] == "enum":
        return pyarrow.string()
    if schema["type"] == "array":
        return pyarrow.list_(_arrow_type(schema["items"], known))
    fields = [(field["name"], _arrow_type(field["type"], known)) for field in schema["fields"]]
    known[f"{schema['namespace']}.{schema['name']}"] = struct = pyarrow.struct(fields)
    return struct
