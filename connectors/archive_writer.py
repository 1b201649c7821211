"""From a log to an archive: only what is new, day by day, in any number of interrupted runs.

What is archived is what has a part's name. A run ended anywhere leaves temporary files, which the
next one deletes, and perhaps parts the manifest does not name yet, which the next one adopts.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectors import archive_tables
from connectors.archive import (
    BASE,
    Manifest,
    Place,
    read_manifest,
    unnamed_parts,
)
from connectors.archive_erasure import ArchiveErasure, ErasedFrom
from connectors.archive_parts import (
    DAY_MS,
    FORMAT_VERSION,
    Part,
    PartWriter,
    day_of,
    explained,
    read_part,
    start_of_day_ms,
)
from connectors.archive_sources import (
    Source,
    refuse_another_log,
    refuse_other_folders,
    rows_on,
)
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row
from connectors.persons import Erased, Forgotten
from schemas.codec import decode, released
from schemas.errors import EngineBusy, RecordError, UsageError
from schemas.operations import ErasureRequested
from schemas.outcomes import PolicyDirected, PolicySnapshot

Steps = Callable[[str], None]
"""Called with the name of each step: crash tests end the process there."""


@dataclass(frozen=True, slots=True)
class Archived:
    """What one run did."""

    rows: int
    """Rows archived by this run."""
    parts: int
    """Parts it made."""
    adopted: int
    """Parts of an interrupted run that it took over."""
    days: tuple[str, ...]
    """The days they belong to."""
    complete_through_ms: int
    """The archive is complete below this log time, ms."""
    tables: bool
    """Whether Parquet was written too."""
    erased: int = 0
    """Rows taken out of it, since somebody was forgotten."""


class Archiver:
    """Brings an archive up to date. One at a time on a folder.

    Parameters
    ----------
    log : Source
        Where from.
    archive : Path
        Where to; made if it is not there.
    codec : str
        ``deflate`` or ``zstandard``.
    tables : bool
        False: no Parquet; it is left out, too, where pyarrow is not installed.
    steps : callable
        Called at each named step.
    erased : Erased, optional
        Everybody who was forgotten: they are left out, and taken out where they stand already.
    """

    def __init__(
        self,
        log: Source,
        archive: Path,
        codec: str = "deflate",
        *,
        tables: bool = True,
        steps: Steps = lambda _name: None,
        erased: Erased | None = None,
    ) -> None:
        self.log = log
        self.archive = archive
        self.codec = codec
        self.tables = tables and archive_tables.can_write()
        self.steps = steps
        self.erased = erased if erased is not None and erased.hashes else None

    def run(self, until_ms: int | None = None) -> Archived:
        """Archive what is new below a log time.

        Parameters
        ----------
        until_ms : int, optional
            Rows of this log time and later stay; None: all days the log has passed, as a whole.

        Raises
        ------
        UsageError
            When the folder holds something else, or the archive of another log.
        EngineBusy
            When another process archives into this folder.
        LogFull, LogUnavailable
            The finished parts stay; the next run goes on behind them.
        """
        complete_ms = self.log.complete_through_ms()
        if until_ms is None:
            until_ms = start_of_day_ms(complete_ms)
        refuse_other_folders(self.archive)
        with explained(self.archive):
            self.archive.mkdir(parents=True, exist_ok=True)
        with _alone(self.archive), explained(self.archive):
            return self._run(until_ms, min(complete_ms, until_ms))

    def _run(self, until_ms: int, complete_ms: int) -> Archived:
        for left in self.archive.rglob(".*.tmp"):
            left.unlink(missing_ok=True)
        manifest = read_manifest(self.archive) or self._new_manifest()
        adopted = unnamed_parts(self.archive, manifest)
        manifest = manifest.after(adopted)
        refuse_another_log(self.log, manifest)
        erased_rows = self._obey_erasures(manifest)
        if erased_rows:
            manifest = read_manifest(self.archive) or manifest
        self._keep_schemas()
        # Before the first part: a stretch without the base it starts from could not be replayed.
        starts_ms = max((part.last_ms for part in manifest.parts), default=0)
        self._keep_bases(starts_ms)
        rows, parts = 0, list(adopted)
        for day_parts, read_through in self._new_parts(manifest, until_ms):
            parts += day_parts
            rows += sum(part.rows for part in day_parts)
            manifest = manifest.after(day_parts).complete(0, read_through)
            self._save(manifest)
        manifest = manifest.complete(complete_ms, 0)
        self._save(manifest)
        days = tuple(sorted({day_of(part.first_ms) for part in parts}))
        count = len(parts) - len(adopted)
        through_ms = manifest.complete_through_ms
        return Archived(rows, count, len(adopted), days, through_ms, self.tables, erased_rows)

    def _obey_erasures(self, manifest: Manifest) -> int:
        """Take out whoever was forgotten since the last run; return how many rows went."""
        if self.erased is None or not manifest.parts:
            return 0
        # The archive holds the erasures it has obeyed: they are archived after that.
        known = set()
        for part in manifest.parts:
            if part.stream == "erasures":
                for row in read_part(self.archive / part.path):
                    value = _decoded(row)
                    if isinstance(value, ErasureRequested):
                        known.add(value.id_hash)
        if self.erased.hashes <= known:
            return 0
        manifest.save(self.archive)
        return ArchiveErasure(self.erased, directives_of(self.log)).run(self.archive).rows

    def _new_manifest(self) -> Manifest:
        # A total order: only the embedded log counts its positions through all streams.
        return Manifest(FORMAT_VERSION, self.log.name, isinstance(self.log, EmbeddedLog), 0, 0, ())

    def _save(self, manifest: Manifest) -> None:
        self.steps("manifest.before")
        manifest.save(self.archive)
        self.steps("manifest.after")

    def _new_parts(self, manifest: Manifest, until_ms: int) -> Iterator[tuple[list[Part], int]]:
        """Yield the parts of each day, when all of them have their names, and how far it read."""
        # Not the newest position of any part: an interrupted run that went further left parts of
        # some streams, and what stands beside them in the others would never be read.
        before = read_through = 0
        writers: dict[Place, PartWriter] = {}
        done: list[Part] = []
        next_day_ms = 0
        try:
            for row, is_new in rows_on(self.log, manifest):
                if row.log_time_ms >= until_ms:
                    break  # rows come in the order of log time
                before, read_through = read_through, row.position
                if not is_new or (self.erased is not None and self.erased.speaks_of(row)):
                    continue
                if row.log_time_ms >= next_day_ms:
                    done += [self._finish(writer) for writer in writers.values()]
                    writers.clear()
                    if done:
                        yield done, before
                    done = []
                    next_day_ms = start_of_day_ms(row.log_time_ms) + DAY_MS
                place = (row.stream, row.partition)
                writer = writers.get(place)
                if writer is not None and writer.is_full:
                    done.append(self._finish(writers.pop(place)))
                    writer = None
                if writer is None:
                    writer = writers[place] = PartWriter(self.archive, row, self.codec)
                writer.write(row)
                self.steps("row")
            done += [self._finish(writer) for writer in writers.values()]
            writers.clear()
        finally:
            for writer in writers.values():
                writer.abandon()
        yield done, read_through

    def _finish(self, writer: PartWriter) -> Part:
        part = writer.close()
        self.steps("part.written")
        if self.tables:
            archive_tables.write(self.archive, writer.temporary, part)
            self.steps("part.tables")
        writer.publish()
        self.steps("part.published")
        return part

    def _keep_schemas(self) -> None:
        folder = self.archive / "schemas"
        with explained(folder):
            folder.mkdir(exist_ok=True)
            for entry in released().values():
                path = folder / f"{entry.name}.v{entry.version}.avsc"
                if not path.exists():
                    path.write_text(entry.text, encoding="utf-8")

    def _keep_bases(self, starts_ms: int) -> None:
        """Keep the newest snapshot of each policy at the start of the stretch, and now.

        `policies` is compacted: the one of the start may be gone from the log. Then the last run
        has kept it as the newest of its time.
        """
        now: dict[str, tuple[tuple[int, int], Row]] = {}
        then: dict[str, tuple[tuple[int, int], Row]] = {}
        for row in self.log.scan("policies"):
            snapshot = _decoded(row)
            if not isinstance(snapshot, PolicySnapshot):
                continue  # no base; the row is archived with its stream all the same
            if (snapshot.learned_through_log_time_ms or 0) > row.log_time_ms:
                # Put into an older one's place when somebody was forgotten: a replay from there
                # would learn twice. The job gives it out once more, in its time.
                continue
            place = ((snapshot.epoch, snapshot.version), row)
            for kept in (now, then) if row.log_time_ms <= starts_ms else (now,):
                if row.key not in kept or place[0] >= kept[row.key][0]:
                    kept[row.key] = place
        for _, row in [*then.values(), *now.values()]:
            writer = PartWriter(self.archive / BASE, row, self.codec)
            if writer.path.exists():
                writer.abandon()
                continue
            writer.write(row)
            writer.close()
            writer.publish()
            self.steps("base")


def erase_from_archive(
    archive: Path, gone: Forgotten, directives: list[PolicyDirected]
) -> ErasedFrom:
    """Take somebody out of an archive.

    Raises
    ------
    UsageError
        When the folder holds no archive.
    EngineBusy
        When another process archives into this folder.
    LogFull, LogUnavailable
        Start again: what is done stays done.
    """
    if read_manifest(archive) is None:
        problem = f"{archive} holds no archive"
        raise UsageError(problem, "Name a folder that `pho archive` wrote")
    with _alone(archive), explained(archive):
        return ArchiveErasure(gone, directives).run(archive)


def directives_of(log: Source) -> list[PolicyDirected]:
    """Return the directives of a log as they stand there now."""
    values = map(_decoded, log.scan("outcomes"))
    return [value for value in values if isinstance(value, PolicyDirected)]


def _decoded(row: Row) -> Any:
    try:
        return decode(row.value)
    except RecordError:
        return None


@contextmanager
def _alone(archive: Path) -> Iterator[None]:
    with (archive / "archive.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            problem = f"another process archives into {archive}"
            raise EngineBusy(problem, "Wait until it is done") from error
        yield
