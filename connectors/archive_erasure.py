"""Takes persons out of an archive: each part that speaks of them is written anew, in its place.

A part keeps its name, so that it is replaced in one go; the manifest follows. A run that ended
between the two is mended by the next: every part is read, and told anew where it differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from connectors import archive_tables
from connectors.archive import BASE, Manifest, read_manifest, unnamed_parts
from connectors.archive_parts import Part, PartWriter, explained, read_part, sync_folder
from connectors.logs import Row
from connectors.persons import Forgotten
from schemas.codec import decode, encode
from schemas.errors import RecordError
from schemas.operations import SideRecord
from schemas.outcomes import OutcomeClosed, PolicyDirected, PolicySnapshot


@dataclass(slots=True)
class ErasedFrom:
    """What was taken out of an archive."""

    rows: int = 0
    """Rows that are gone."""
    parts: int = 0
    """Parts that were written anew."""
    bases: int = 0
    """Policy snapshots that are gone: they had learned from them."""
    tables: int = 0
    """Parquet files that were deleted and could not be made again, for want of pyarrow."""
    loops: dict[str, int] = field(default_factory=dict)
    """Loops whose outcomes went, with the log time of the first, ms."""


class ArchiveErasure:
    """What goes out of an archive, and what stands there instead.

    Parameters
    ----------
    gone : Forgotten
        Who.
    directives : iterable of PolicyDirected
        The directives as they stand in the log now: an archived one with the same id gets their
        bytes, for its arrays may have learned from somebody who was forgotten.
    """

    def __init__(self, gone: Forgotten, directives: Iterable[PolicyDirected]) -> None:
        self._gone = gone
        self._directives: dict[str, bytes] = {}
        self._clean_from: dict[tuple[str, str], int] = {}
        for each in directives:
            self._directives[each.directive_id] = encode(each)
            if each.kind == "erase" and each.new_epoch is not None:
                place = (each.loop_id, each.policy_id)
                self._clean_from[place] = max(self._clean_from.get(place, 0), each.new_epoch)
        self._since_ms: dict[str, int] = {}

    def run(self, archive: Path) -> ErasedFrom:
        """Take them out of an archive; the caller keeps every other writer off it.

        Raises
        ------
        LogFull, LogUnavailable
            Start again: what is done stays done.
        """
        manifest = read_manifest(archive)
        assert manifest is not None  # noqa: S101 - the caller has looked
        with explained(archive):
            for left in archive.rglob(".*.tmp"):
                left.unlink(missing_ok=True)
        manifest = manifest.after(unnamed_parts(archive, manifest))
        self._note_outcomes(archive, manifest)
        done = ErasedFrom(loops=dict(self._since_ms))
        parts = []
        for part in manifest.parts:
            now = self._part(archive, part, done)
            if now.rows:
                parts.append(now)
        emptied = {part.path for part in manifest.parts} - {part.path for part in parts}
        if tuple(parts) != manifest.parts:
            msgspec.structs.replace(manifest, parts=tuple(parts)).save(archive)
        for path in emptied:
            (archive / path).unlink(missing_ok=True)
        self._bases(archive, done)
        return done

    def _note_outcomes(self, archive: Path, manifest: Manifest) -> None:
        """Note since when policies may have learned from them: before any part is written anew."""
        for part in manifest.parts:
            if part.stream != "outcomes":
                continue
            for row in read_part(archive / part.path):
                if self._gone.speaks_of(row):
                    value = _decoded(row.value)
                    if isinstance(value, OutcomeClosed):
                        loop_id = value.choice.loop_id
                        since_ms = self._since_ms.get(loop_id, row.log_time_ms)
                        self._since_ms[loop_id] = min(since_ms, row.log_time_ms)

    def _part(self, archive: Path, part: Part, done: ErasedFrom) -> Part:
        path = archive / part.path
        count, last, dirty = 0, None, False
        for row in read_part(path):
            now = self._now(row)
            dirty |= now is not row
            count += now is not None
            last = now or last
        if dirty:
            return self._rewrite(archive, part, done)
        if last is None:
            return msgspec.structs.replace(part, rows=0)
        return _told(part, count, last)

    def _rewrite(self, archive: Path, part: Part, done: ErasedFrom) -> Part:
        path = archive / part.path
        writer: PartWriter | None = None
        count, last = 0, None
        rows = self._kept(path, done)
        try:
            for row, now in rows:
                if writer is None:
                    # Named after the row that was its first, also where that is gone.
                    first = row._replace(position=part.first, log_time_ms=part.first_ms)
                    writer = PartWriter(archive, first)
                if now is not None:
                    writer.write(now)
                    count, last = count + 1, now
            assert writer is not None  # noqa: S101 - a part has rows
            written = writer.close()
            self._tables(archive, part, writer.temporary if last else None, done)
        except BaseException:
            if writer is not None:
                writer.abandon()
            raise
        writer.publish()
        done.parts += 1
        if last is None:
            return msgspec.structs.replace(part, rows=0)
        return _told(msgspec.structs.replace(part, path=written.path), count, last)

    def _kept(self, path: Path, done: ErasedFrom) -> Iterator[tuple[Row, Row | None]]:
        for row in read_part(path):
            now = self._now(row)
            done.rows += now is None
            yield row, now

    def _now(self, row: Row) -> Row | None:
        """Return a row as it is to stand: itself, with other bytes, or not at all."""
        if row.stream == "erasures":
            return row
        if row.stream == "policies":
            return None if self._has_learned(_decoded(row.value)) else row
        if self._gone.speaks_of(row):
            return None
        if row.stream == "outcomes":
            value = _decoded(row.value)
            if isinstance(value, PolicyDirected):
                data = self._directives.get(value.directive_id, row.value)
                return row if data == row.value else row._replace(value=data)
        if row.stream in ("late", "unmatched", "dead-letters"):
            value = _decoded(row.value)
            held = _decoded(value.raw) if isinstance(value, SideRecord) else None
            if isinstance(held, PolicyDirected) and held.loop_id in self._since_ms:
                return None
            return None if self._has_learned(held) else row
        return row

    def _has_learned(self, value: Any) -> bool:
        """Whether it is a snapshot that may have learned from them."""
        if not isinstance(value, PolicySnapshot) or value.loop_id not in self._since_ms:
            return False
        if value.epoch >= self._clean_from.get((value.loop_id, value.policy_id), 2**31):
            return False
        through_ms = value.learned_through_log_time_ms
        return through_ms is not None and through_ms >= self._since_ms[value.loop_id]

    def _tables(self, archive: Path, part: Part, source: Path | None, done: ErasedFrom) -> None:
        name = archive_tables.table_path("*", part).name
        old = sorted(archive.glob(f"record=*/day=*/{name}"))
        with explained(archive):
            for path in old:
                path.unlink(missing_ok=True)
                sync_folder(path.parent)
        if old and source is not None:
            if archive_tables.can_write():
                archive_tables.write(archive, source, part)
            else:
                done.tables += len(old)

    def _bases(self, archive: Path, done: ErasedFrom) -> None:
        for path in sorted((archive / BASE).glob("stream=*/day=*/part-*.avro")):
            if any(self._has_learned(_decoded(row.value)) for row in read_part(path)):
                with explained(path):
                    path.unlink()
                    sync_folder(path.parent)
                done.bases += 1


def _told(part: Part, count: int, last: Row) -> Part:
    return msgspec.structs.replace(
        part,
        last=last.position,
        rows=count,
        last_ms=last.log_time_ms,
        last_crc=crc32(last.value),
    )


def _decoded(data: bytes) -> Any:
    try:
        return decode(data)
    except RecordError:
        return None
