"""`pho bridge`: one run of it, over a source that may go on growing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from connectors.archive import MANIFEST, ArchiveReader
from connectors.bridge import Bridge
from connectors.embedded_log import FILE_NAME, EmbeddedLog
from connectors.kafka_clients import KafkaClient
from connectors.logs import Row
from connectors.registry import RegistryFormat
from engines.job import StopFlag
from schemas.errors import LogUnavailable, UsageError
from serving.console import Progressed

_FOLLOW_EVERY_S = 0.2
_RETRY_S = 1.0
_LOOK_EVERY = 1_000


def open_source(folder: Path, *, follow: bool) -> EmbeddedLog | ArchiveReader:
    """Open what is copied.

    Raises
    ------
    UsageError
        There is neither a log nor an archive, or an archive is to be followed.
    """
    if (folder / FILE_NAME).exists():
        return EmbeddedLog(folder)
    if not (folder / MANIFEST).exists():
        problem = f"{folder} holds neither a log nor an archive"
        raise UsageError(problem, "Name the folder of one with --from")
    if follow:
        problem = f"{folder} is an archive, which does not grow while it is read"
        raise UsageError(problem, "Leave --follow out; archive again, then bridge again")
    return ArchiveReader(folder)


class Target(NamedTuple):
    """Where the copies go."""

    client: KafkaClient
    """Writes."""
    streams: Sequence[str]
    """What is copied."""
    registry: RegistryFormat | None = None
    """The copies' format; None: bytes as they are."""


class Bridging:
    """Copies until the source is at its end, or for ever.

    Parameters
    ----------
    target : Target
        Where the copies go.
    source : EmbeddedLog or ArchiveReader
        Where from.
    moved : callable
        Told how many records of how many were read.
    """

    def __init__(
        self, target: Target, source: EmbeddedLog | ArchiveReader, moved: Progressed
    ) -> None:
        self.copied = 0
        self.read = 0
        self._target = target
        self._source = source
        self._moved = moved
        self._total = _size(source)

    def run(self, stop: StopFlag, say: Callable[[str], None], *, follow: bool) -> None:
        """Copy to the end; with `follow` go on, also after the broker was away.

        Raises
        ------
        LogUnavailable
            Without `follow`: the broker is away for longer than the client waits.
        UsageError
            The topics were filled by somebody else, or from another source.
        """
        while True:
            try:
                self._run(stop, follow=follow)
                return
            except LogUnavailable as error:
                if not follow or stop.is_set():
                    raise
                say(f"{error}; going on when it is back")
                stop.wait(_RETRY_S)

    def _run(self, stop: StopFlag, *, follow: bool) -> None:
        bridge = Bridge(*self._target)
        source = self._source
        try:
            last = bridge.copy(self._until(source.scan(*bridge.names), stop))
            if not stop.is_set():
                bridge.refuse_other_source()
            while follow and isinstance(source, EmbeddedLog) and not stop.is_set():
                stop.wait(_FOLLOW_EVERY_S)
                after = last.position if last is not None else 0
                rows = source.scan(*bridge.names, after=after)
                last = bridge.copy(self._until(rows, stop)) or last
        finally:
            self.copied += bridge.copied

    def _until(self, rows: Iterable[Row], stop: StopFlag) -> Iterator[Row]:
        """Yield rows until it is told to stop."""
        for row in rows:
            yield row
            self.read += 1
            if self.read % _LOOK_EVERY == 0:
                self._moved(self.read, self._total)
                if stop.is_set():
                    return


def _size(source: EmbeddedLog | ArchiveReader) -> int:
    """Return about how many records there are."""
    if isinstance(source, EmbeddedLog):
        return source.end().position
    return sum(part.rows for part in source.manifest.parts)
