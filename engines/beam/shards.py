"""What Beam's workers do: read parts of an archive, and run an operator over shards of its keys.

Keys travel in shards, thousands of records as one value: record by record Beam's grouping took a
third of the time again (30 us each) and twice the memory. A shard is small enough to be sorted in
memory.
"""

from __future__ import annotations

import gc
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import apache_beam as beam
import msgspec

from connectors import archive_tables
from connectors.archive_parts import Part, PartWriter, day_of, read_part
from connectors.logs import Row
from engines.beam.per_key import Given, Ordered, ordered, run_keys
from pipelines.operators import Keyed

SHARD_ROWS = 50_000
"""Rows in a shard, about: 50 MB of memory in the worker that has it."""
SHARDS = ".shards"
"""Folder in which each shard says what it wrote; gone when all is done."""
_MESSAGES = msgspec.msgpack.Encoder()
_ROWS = msgspec.msgpack.Decoder(list[Ordered])


class Shard(msgspec.Struct, frozen=True):
    """What became of one shard."""

    keys: int
    """Keys in it."""
    rows: int
    """Records in it."""
    parts: tuple[Part, ...]
    """What was written."""


def shard_of(key: str, shards: int) -> int:
    """Return the shard of a key."""
    return zlib.crc32(key.encode()) % shards


def packed(rows: Iterable[Ordered]) -> bytes:
    """Return rows as bytes; records resemble each other, and shrink to a fifth."""
    return zlib.compress(_MESSAGES.encode(list(rows)), 1)


def unpacked(data: bytes) -> list[Ordered]:
    """Return the rows that `packed` made bytes of."""
    return _ROWS.decode(zlib.decompress(data))


class ReadPart(beam.DoFn):  # type: ignore[misc]
    """From the path of a part to its rows: (shard, bytes).

    Parameters
    ----------
    archive : str
        The archive's folder.
    part : Keyed
        The operator that will get them.
    shards : int
        Over how many shards its keys are spread.
    """

    def __init__(self, archive: str, part: Keyed, shards: int) -> None:
        super().__init__()
        self._archive = archive
        self._part = part
        self._shards = shards

    def process(self, path: str) -> Iterator[tuple[int, bytes]]:
        """Read one part."""
        yield from spread(self._part, read_part(Path(self._archive) / path), self._shards)


def spread(part: Keyed, rows: Iterable[Row], shards: int) -> Iterator[tuple[int, bytes]]:
    """Yield the rows of an operator by shard: (shard, bytes)."""
    found: dict[int, list[Ordered]] = {}
    for row in rows:
        sortable = ordered(part, row)
        if sortable is not None:
            found.setdefault(shard_of(row.key, shards), []).append(sortable)
    for shard, its_rows in found.items():
        yield shard, packed(its_rows)


class RunShard(beam.DoFn):  # type: ignore[misc]
    """From all rows of a shard to the files of what the operator gives out.

    What it writes has names that the shard's number makes: a shard tried twice writes the same
    files with the same bytes.

    Parameters
    ----------
    out : str
        The folder to write to.
    part : Keyed
        The operator.
    complete_through_ms : int
        The log is complete below this time, ms.
    tables : bool
        Whether to write Parquet, too.
    """

    def __init__(self, out: str, part: Keyed, complete_through_ms: int, *, tables: bool) -> None:
        super().__init__()
        self._out = out
        self._part = part
        self._complete_through_ms = complete_through_ms
        self._tables = tables

    def process(self, shard: tuple[int, Iterable[bytes]]) -> Iterator[int]:
        """Run one shard; yield its number."""
        number, chunks = shard
        with _uncollected():
            rows = [row for chunk in chunks for row in unpacked(chunk)]
            given = list(run_keys(self._part, rows, self._complete_through_ms))
        done = Shard(
            keys=len({row[0] for row in rows}),
            rows=len(rows),
            parts=tuple(write_given(Path(self._out), number, given, tables=self._tables)),
        )
        # Nothing but the number goes back through Beam: the file is there on every runner.
        path = Path(self._out) / SHARDS / f"{number}.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.encode(done))
        temporary.replace(path)
        yield number


def write_given(out: Path, shard: int, given: list[Given], *, tables: bool) -> Iterator[Part]:
    """Write what was given out as an archive holds it, the shard as its partition."""
    by_stream: dict[str, list[Given]] = {}
    for each in given:
        by_stream.setdefault(each.stream, []).append(each)
    for stream, its in sorted(by_stream.items()):
        its.sort(key=attrgetter("log_time_ms", "key"))
        writer: PartWriter | None = None
        day = ""
        for position, (_, key, at_ms, value) in enumerate(its):
            row = Row(position, stream, key, at_ms, value, shard)
            if writer is None or writer.is_full or day_of(at_ms) != day:
                if writer is not None:
                    yield _finish(out, writer, tables=tables)
                writer, day = PartWriter(out, row), day_of(at_ms)
            writer.write(row)
        if writer is not None:
            yield _finish(out, writer, tables=tables)


def _finish(out: Path, writer: PartWriter, *, tables: bool) -> Part:
    part = writer.close()
    if tables:
        archive_tables.write(out, writer.temporary, part)
    writer.publish()
    return part


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python's cycle collector away from a shard, in which there are no reference cycles.

    Walking its 50,000 rows again and again while they are joined costs a tenth of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_shards(out: Path) -> list[Shard]:
    """Return what all shards say they wrote."""
    files: list[Any] = sorted((out / SHARDS).glob("*.json"))
    return [msgspec.json.decode(path.read_bytes(), type=Shard) for path in files]
