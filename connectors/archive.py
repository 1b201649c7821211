"""The archive: days of a log as files, which can be read like the log itself.

::

    ARCHIVE/manifest.json                                        what is archived, through where
    ARCHIVE/stream=outcomes/day=2026-11-21/part-0-1042.avro      rows as they stood in the log
    ARCHIVE/base/part-0-977.avro                                 a policy, to replay from there on
    ARCHIVE/schemas/OutcomeClosed.v1.avsc                        what the rows' bytes mean
    ARCHIVE/record=OutcomeClosed/day=2026-11-21/outcomes-0-1042.parquet   the same, for analysts

Days are those of the log time, UTC. A part is named by its partition and first position. Parquet
stands by record, not by stream, so that each folder is one table (a stream may carry several).
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from connectors.archive_parts import (
    FORMAT_VERSION,
    Part,
    describe,
    explained,
    read_part,
    sync_folder,
)
from connectors.logs import Row
from schemas.errors import LogUnavailable, UsageError

MANIFEST = "manifest.json"
BASE = "base"
Place = tuple[str, int]
"""A stream and a partition."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an archive holds; written last, so that everything it names is there."""

    format: int
    """Version of the layout."""
    log: str
    """The log it was made of, for a person to read."""
    total_order: bool
    """True: positions count through all streams (the embedded log)."""
    complete_through_ms: int
    """Whatever had to stand below this log time is archived, ms."""
    read_through: int
    """In a total order: all streams are archived through this position; elsewhere 0."""
    parts: tuple[Part, ...]
    """The parts, by stream, partition and first position."""

    @property
    def newest(self) -> dict[Place, Part]:
        """The last part of each stream and partition: it is archived through its last row."""
        return {(part.stream, part.partition): part for part in self.parts}

    def after(self, parts: list[Part]) -> Manifest:
        """Return it with more parts."""
        told = sorted(
            {part.path: part for part in (*self.parts, *parts)}.values(),
            key=lambda part: (part.stream, part.partition, part.first),
        )
        return msgspec.structs.replace(self, parts=tuple(told))

    def complete(self, through_ms: int, read_through: int) -> Manifest:
        """Return it with how far all streams are archived, never less far than before."""
        return msgspec.structs.replace(
            self,
            complete_through_ms=max(self.complete_through_ms, through_ms),
            read_through=max(self.read_through, read_through) if self.total_order else 0,
        )

    def save(self, archive: Path) -> None:
        """Write it, durably, in one go."""
        path = archive / MANIFEST
        temporary = path.with_suffix(".tmp")
        with explained(path):
            with temporary.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(self), indent=1))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(archive)


def read_manifest(archive: Path) -> Manifest | None:
    """Read the manifest; None: there is none.

    Raises
    ------
    LogUnavailable
        When it cannot be read, or belongs to a newer release.
    """
    path = archive / MANIFEST
    cure = f"Delete {MANIFEST}: the next `pho archive` makes it again from the parts"
    with explained(path):
        if not path.exists():
            return None
        data = path.read_bytes()
    try:
        # The version first: a newer one may have fields that this release does not know.
        version = msgspec.json.decode(data, type=_Version).format
        if version > FORMAT_VERSION:
            problem = f"{path} has format {version}, this release knows {FORMAT_VERSION}"
            raise LogUnavailable(problem, "Use the release of PHO that wrote it, or a newer one")
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = f"{path} cannot be read: {error}"
        raise LogUnavailable(problem, cure) from error


class _Version(msgspec.Struct):
    format: int


def unnamed_parts(archive: Path, manifest: Manifest) -> list[Part]:
    """Return whole parts that the manifest does not name: a run ended between the two."""
    known = {part.path for part in manifest.parts}
    return [
        describe(archive, path)
        for path in sorted(archive.glob("stream=*/day=*/part-*.avro"))
        if str(path.relative_to(archive)) not in known
        # An erasure that emptied a part ended before it deleted the file.
        and next(read_part(path), None) is not None
    ]


class ArchiveReader:
    """An archive, read like a log.

    Parameters
    ----------
    archive : Path
        Its folder.

    Raises
    ------
    UsageError
        When the folder holds no archive.
    LogUnavailable
        When a part that the manifest names is gone, or a newer release wrote it.
    """

    def __init__(self, archive: Path) -> None:
        manifest = read_manifest(archive)
        if manifest is None:
            if any(archive.glob("stream=*")):
                problem = f"{archive} has lost its {MANIFEST}"
                cure = "Run `pho archive` into it once more: it is made again from the parts"
                raise LogUnavailable(problem, cure)
            problem = f"{archive} holds no archive"
            raise UsageError(problem, "Name a folder that `pho archive` wrote")
        gone = [part.path for part in manifest.parts if not (archive / part.path).exists()]
        if gone:
            problem = f"{archive} lacks {len(gone)} of its parts, such as {gone[0]}"
            raise LogUnavailable(problem, "Bring them back from a copy of the archive")
        self.folder = archive
        self.name = str(archive)
        self.manifest = manifest

    def scan(self, *streams: str, key: str | None = None) -> Iterator[Row]:
        """Yield all rows of some streams (of all, when none is named), in the log's order.

        In the order of log time; at one log time in the order of the streams as named, then of
        partition and position. An archive of the embedded log keeps that log's total order.
        """
        chains: dict[Place, list[Part]] = {}
        for part in self.manifest.parts:
            if not streams or part.stream in streams:
                chains.setdefault((part.stream, part.partition), []).append(part)
        lanes = [self._lane(parts) for parts in chains.values()]
        if self.manifest.total_order:
            merged = heapq.merge(*lanes, key=lambda row: row.position)
        else:
            rank = {stream: place for place, stream in enumerate(streams)}
            merged = heapq.merge(
                *lanes,
                key=lambda r: (r.log_time_ms, rank.get(r.stream, 0), r.stream, r.partition),
            )
        return merged if key is None else (row for row in merged if row.key == key)

    def _lane(self, parts: list[Part]) -> Iterator[Row]:
        for part in parts:
            yield from read_part(self.folder / part.path)

    def bases(self) -> list[Row]:
        """Return the policy snapshots a replay can start from, by log time."""
        files = sorted((self.folder / BASE).glob("stream=*/day=*/part-*.avro"))
        rows = [row for path in files for row in read_part(path)]
        return sorted(rows, key=lambda row: (row.log_time_ms, row.partition, row.position))

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each stream."""
        found: dict[str, int] = {}
        for part in self.manifest.parts:
            found[part.stream] = found.get(part.stream, 0) + part.rows
        return found

    def complete_through_ms(self) -> int:
        """Return the log time below which nothing is missing, ms."""
        return self.manifest.complete_through_ms

    def close(self) -> None:
        """Let go of it: nothing is held."""
