"""The parts of an archive: Avro object container files, each written once and then never changed.

A part holds rows of one partition of one stream and one UTC day of log time, as they stood in the
log, bytes and all. It is written under a temporary name and renamed when it is durable, so whatever
has a part's name is whole.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import fastavro
import msgspec
from fastavro.write import Writer

from connectors.logs import Row
from schemas.errors import LogFull, LogUnavailable, UsageError

FORMAT_VERSION = 1
PART_ROWS_MAX = 100_000
"""Rows in one part: some 10 MB, so that many parts can be read at once."""
# A block is compressed by itself: 64 KiB hold a hundred records that resemble each other, and make
# half the file that fastavro's own 16 KB make.
_BLOCK_BYTES = 65_536
_NAME = re.compile(r"part-(?P<partition>\d+)-(?P<first>\d+)\.avro")
DAY_MS = 86_400_000

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "ArchivedRow",
    "namespace": "pho",
    "doc": "One record of a log, as it stood there.",
    "fields": [
        {"name": "position", "type": "long", "doc": "Place in its partition."},
        {"name": "partition", "type": "int", "doc": "Its partition."},
        {"name": "key", "type": "string", "doc": "Its key."},
        {"name": "log_time_ms", "type": "long", "doc": "When it was appended, ms since 1970 UTC."},
        {"name": "value", "type": "bytes", "doc": "Its bytes, in Avro single-object encoding."},
    ],
}
_PARSED = fastavro.parse_schema(SCHEMA)


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One part, as the manifest names it."""

    path: str
    """Its file, from the archive's folder."""
    stream: str
    """The stream."""
    partition: int
    """The partition."""
    first: int
    """Position of its first row."""
    last: int
    """Position of its last row."""
    rows: int
    """How many it holds."""
    first_ms: int
    """Log time of its first row, ms."""
    last_ms: int
    """Log time of its last row, ms."""
    last_crc: int
    """CRC-32 of the last row's bytes: tells whether a log is the one that was archived."""


def day_of(log_time_ms: int) -> str:
    """Return the UTC day of a log time, ``2026-11-21``."""
    return (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=log_time_ms)).date().isoformat()
    )


def start_of_day_ms(log_time_ms: int) -> int:
    """Return when the UTC day of a log time began, ms."""
    return log_time_ms // DAY_MS * DAY_MS


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn errors of the disk into ours, which say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            problem = f"no room for {path}"
            cure = "Free some space and start again: finished parts stay, the rest is read again"
            raise LogFull(problem, cure) from error
        problem = f"{path} cannot be used: {error.strerror or error}"
        raise LogUnavailable(problem, "Check the folder's place and its permissions") from error


class PartWriter:
    """Writes one part.

    Parameters
    ----------
    archive : Path
        The archive's folder.
    row : Row
        Its first row: names stream, partition, day and file. It is not written yet.
    codec : str
        ``deflate``, which every reader has, or ``zstandard``, which needs its package.

    Raises
    ------
    UsageError
        When the codec is not to be had.
    """

    def __init__(self, archive: Path, row: Row, codec: str = "deflate") -> None:
        day = day_of(row.log_time_ms)
        self.folder = archive / f"stream={row.stream}" / f"day={day}"
        self.path = self.folder / f"part-{row.partition}-{row.position}.avro"
        # The process in its name: two that make the same part (a bundle tried twice) never meet.
        self.temporary = self.folder / f".{self.path.name}.{os.getpid()}.tmp"
        self._archive = archive
        self._first = self._last = row
        self._rows = 0
        with explained(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self.temporary.open("wb")
        about = {"stream": row.stream, "day": day, "partition": str(row.partition)}
        metadata = {"pho.format": str(FORMAT_VERSION)} | {f"pho.{k}": v for k, v in about.items()}
        try:
            self._writer = Writer(
                self._file, _PARSED, codec, _BLOCK_BYTES, metadata, compression_level=1
            )
        except ValueError as error:
            self.abandon()
            problem = f"the codec {codec!r} cannot be used: {error}"
            raise UsageError(problem, "Use deflate, which is always there") from error

    @property
    def is_full(self) -> bool:
        """Whether the next row belongs into another part."""
        return self._rows >= PART_ROWS_MAX

    def write(self, row: Row) -> None:
        """Add a row; they come in the order of their positions."""
        self._writer.write(
            {
                "position": row.position,
                "partition": row.partition,
                "key": row.key,
                "log_time_ms": row.log_time_ms,
                "value": row.value,
            }
        )
        self._last = row
        self._rows += 1

    def close(self) -> Part:
        """Make the file durable, still under its temporary name; return what it holds."""
        with explained(self.path):
            self._writer.flush()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        first, last = self._first, self._last
        return Part(
            path=str(self.path.relative_to(self._archive)),
            stream=first.stream,
            partition=first.partition,
            first=first.position,
            last=last.position,
            rows=self._rows,
            first_ms=first.log_time_ms,
            last_ms=last.log_time_ms,
            last_crc=crc32(last.value),
        )

    def publish(self) -> None:
        """Give the file its name: from here on it is a part, and never changes."""
        with explained(self.path):
            self.temporary.replace(self.path)
            sync_folder(self.folder)

    def abandon(self) -> None:
        """Drop what was written."""
        self._file.close()
        self.temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_part(path: Path) -> Iterator[Row]:
    """Yield the rows of a part, in the order of their positions.

    Raises
    ------
    LogUnavailable
        When the file is gone, torn, no part, or of a newer release.
    """
    with explained(path), path.open("rb") as file:
        try:
            reader: Any = fastavro.reader(file)
            _check(path, reader.metadata)
            stream = reader.metadata["pho.stream"]
            for row in reader:
                yield Row(
                    row["position"],
                    stream,
                    row["key"],
                    row["log_time_ms"],
                    row["value"],
                    row["partition"],
                )
        except (LogUnavailable, GeneratorExit, OSError):
            raise
        except Exception as error:
            # fastavro has no one error of its own: whatever odd bytes bring up comes here.
            problem = f"{path} is torn: {type(error).__name__}: {error}"
            cure = "Delete it and run `pho archive` again while the log still holds that day"
            raise LogUnavailable(problem, cure) from error


def _check(path: Path, metadata: dict[str, str]) -> None:
    version = metadata.get("pho.format", "")
    if not version.isdecimal():
        problem = f"{path} is no part of an archive"
        raise LogUnavailable(problem, "Name a folder that `pho archive` wrote")
    if int(version) > FORMAT_VERSION:
        problem = f"{path} has format {version}, this release knows {FORMAT_VERSION}"
        raise LogUnavailable(problem, "Use the release of PHO that wrote it, or a newer one")


def describe(archive: Path, path: Path) -> Part:
    """Read a part through and say what it holds, as the manifest would."""
    rows = read_part(path)
    first = last = next(rows, None)
    if first is None or last is None or _NAME.fullmatch(path.name) is None:
        problem = f"{path} is no part of an archive: it holds no rows, or has another name"
        raise LogUnavailable(problem, "Move it away")
    count = 1
    for row in rows:
        last = row
        count += 1
    return Part(
        path=str(path.relative_to(archive)),
        stream=first.stream,
        partition=first.partition,
        first=first.position,
        last=last.position,
        rows=count,
        first_ms=first.log_time_ms,
        last_ms=last.log_time_ms,
        last_crc=crc32(last.value),
    )
