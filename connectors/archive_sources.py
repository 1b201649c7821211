"""What an archive is made of: a log that is read on, and the refusal of what is not that log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable
from zlib import crc32

from connectors.archive import BASE, MANIFEST, Manifest, Place
from connectors.archive_parts import Part, explained
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Clock, Row
from schemas.codec import decode
from schemas.errors import RecordError, UsageError
from schemas.outcomes import PolicyDirected
from schemas.streams import STREAMS


class Source(Protocol):
    """What an archive needs of a `Log`; each member is as there."""

    @property
    def name(self) -> str:
        """Where it is."""
        ...

    @property
    def clock(self) -> Clock:
        """The time an append would get now."""
        ...

    def scan(self, *streams: str, key: str | None = None) -> Iterator[Row]:
        """Yield all there is now in some streams."""
        ...

    def complete_through_ms(self) -> int:
        """Return the log time below which nothing comes any more, ms."""
        ...


@runtime_checkable
class ReadsOn(Protocol):
    """A log that can be read on from a place (`KafkaLog`)."""

    def scan_from(
        self, places: Mapping[Place, int], *streams: str, key: str | None = None
    ) -> Iterator[Row]:
        """Yield like `scan`, but of each (stream, partition) only from a position on."""
        ...


def rows_on(log: Source, manifest: Manifest) -> Iterator[tuple[Row, bool]]:
    """Yield rows in the order of log time, and whether the archive lacks them; some it has."""
    newest = manifest.newest
    rows: Iterator[Row]
    if isinstance(log, EmbeddedLog):
        rows = log.scan(after=manifest.read_through)
    elif isinstance(log, ReadsOn):
        rows = log.scan_from({place: part.last + 1 for place, part in newest.items()}, *STREAMS)
    else:
        rows = log.scan(*STREAMS)
    for row in rows:
        part = newest.get((row.stream, row.partition))
        is_new = part is None or row.position > part.last
        if is_new and part is not None and row.log_time_ms < part.last_ms:
            # Log time never goes back in a partition; a log read on from its middle cannot know
            # that a broker's clock had been ahead before.
            yield row._replace(log_time_ms=part.last_ms), True
        else:
            yield row, is_new


def refuse_another_log(log: Source, manifest: Manifest) -> None:
    """Refuse a log that has something else at the place of the newest archived row.

    Raises
    ------
    UsageError
        When its positions mean other records: mixed with ours they would be lost.
    """
    # Of a compacted stream any row may be gone.
    lasting = [part for part in manifest.newest.values() if not STREAMS[part.stream].compacted]
    if not lasting:
        return
    part = max(lasting, key=lambda part: (part.stream != "ticks", part.last_ms, part.last))
    cure = f"It was made of another log ({manifest.log}): name another folder for this one"
    found = _first_from(log, part)
    if found is None:
        problem = f"{log.name} ends before the archive does, at {part.stream}[{part.last}]"
        raise UsageError(problem, cure)
    # Where the log's first row is a later one, retention took ours.
    is_there = found.position == part.last
    if is_there and (found.stream != part.stream or _differs(found, part)):
        problem = f"{log.name} holds something else than the archive at {part.stream}[{part.last}]"
        raise UsageError(problem, cure)


def _differs(found: Row, part: Part) -> bool:
    if crc32(found.value) == part.last_crc:
        return False
    try:
        # Its arrays change where it stands, when somebody whom they had learned from is forgotten.
        return not isinstance(decode(found.value), PolicyDirected)
    except RecordError:
        return True


def _first_from(log: Source, part: Part) -> Row | None:
    """Return what the log has at the last place of a part, or behind it."""
    if isinstance(log, EmbeddedLog):
        return next(log.scan(after=part.last - 1), None)
    place = (part.stream, part.partition)
    if isinstance(log, ReadsOn):
        rows = log.scan_from({place: part.last}, part.stream)
    else:
        rows = log.scan(part.stream)
    mine = (r for r in rows if (r.stream, r.partition) == place and r.position >= part.last)
    return next(mine, None)


def refuse_other_folders(archive: Path) -> None:
    """Refuse a folder that holds something else: nothing of it may be swept or mixed with ours.

    Raises
    ------
    UsageError
        Names one of the files.
    """
    with explained(archive):
        if not archive.exists() or (archive / MANIFEST).exists():
            return
        strange = [path.name for path in archive.iterdir() if not _is_ours(path.name)]
    if strange:
        problem = f"{archive} is no archive: it holds {sorted(strange)[0]!r}"
        raise UsageError(problem, "Name an empty folder, or one that `pho archive` wrote")


def _is_ours(name: str) -> bool:
    known = (BASE, "schemas", "archive.lock", "manifest.tmp")
    return name in known or name.startswith(("stream=", "record=", "."))


def until_ms(text: str, log: Source) -> int | None:
    """Read what `--until` says: ``now``, a day, or empty for all days that are over.

    Raises
    ------
    UsageError
        When it is none of these.
    """
    if not text:
        return None
    if text == "now":
        return max(log.clock(), log.complete_through_ms()) + 1
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        problem = f"--until {text} is no day"
        raise UsageError(problem, "Write now, or a day such as 2026-11-21") from error
    return int(day.timestamp() * 1_000)
