"""`pho bridge`: one run of it, over a source that may go on growing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from connectors.archive import MANIFEST, ArchiveReader
from connectors.bridge import Bridge
from connectors.bridge_sources import BridgeSource, FolderSource, KafkaSource, KinesisStreamsSource
from connectors.embedded_log import FILE_NAME, EmbeddedLog
from connectors.kafka_address import SCHEME as KAFKA
from connectors.kinesis_address import SCHEME as KINESIS
from connectors.logs import Row
from engines.job import StopFlag
from schemas.errors import LogUnavailable, UsageError
from serving.console import Progressed
from serving.kinesis_opening import connect_kinesis
from serving.opening import connect_kafka, hasty, registry_format
from serving.settings import Settings

_FOLLOW_EVERY_S = 0.2
_RETRY_S = 1.0
_LOOK_EVERY = 1_000


def open_source(text: str, settings: Settings, *, follow: bool) -> BridgeSource:
    """Open what is copied: a folder of a log or an archive, or an address.

    Raises
    ------
    UsageError
        There is neither a log nor an archive, an archive is to be followed, or source and target
        are of one kind.
    """
    elsewhere = msgspec.structs.replace(
        settings, log=msgspec.structs.replace(settings.log, address=text)
    )
    for scheme, other in ((KAFKA, "Kafka's own MirrorMaker"), (KINESIS, "a consumer of AWS's own")):
        if text.startswith(scheme) and settings.log.address.startswith(scheme):
            problem = f"`pho bridge` copies from {text} to another kind of log"
            raise UsageError(problem, f"Within one kind {other} does it")
    if text.startswith(KAFKA):
        from connectors.kafka_log import KafkaLog

        elsewhere = hasty(elsewhere)
        client = connect_kafka(elsewhere, "confluent")
        return KafkaSource(KafkaLog(client, registry=registry_format(elsewhere)))
    if text.startswith(KINESIS):
        from connectors.kinesis_rows import KinesisRows

        client, address = connect_kinesis(elsewhere)
        return KinesisStreamsSource(KinesisRows(client, address, settings.kinesis.reads_per_second))
    return _open_folder(Path(text), follow=follow)


def _open_folder(folder: Path, *, follow: bool) -> FolderSource:
    if (folder / FILE_NAME).exists():
        return FolderSource(EmbeddedLog(folder))
    if not (folder / MANIFEST).exists():
        problem = f"{folder} holds neither a log nor an archive"
        raise UsageError(problem, "Name the folder of one with --from, or an address")
    if follow:
        problem = f"{folder} is an archive, which does not grow while it is read"
        raise UsageError(problem, "Leave --follow out; archive again, then bridge again")
    return FolderSource(ArchiveReader(folder))


class Copies(Protocol):
    """Where the copies go: `connectors.bridge.Bridge`, or `connectors.kinesis_bridge`'s."""

    copied: int
    """Records copied so far."""

    @property
    def names(self) -> tuple[str, ...]:
        """What to read of the source."""
        ...

    def copy(self, rows: Iterable[Row]) -> Row | None:
        """Copy what is not there yet; return the last row."""
        ...

    def refuse_other_source(self) -> None:
        """Refuse a target that was filled from another log."""
        ...


class Bridging:
    """Copies until the source is at its end, or for ever.

    Parameters
    ----------
    target : callable
        Returns a bridge that begins behind what the target holds.
    source : BridgeSource
        Where from.
    moved : callable
        Told how many records of how many were read.
    tick_tail_ms : int
        Where the source has no Ticks, they end so long after its newest record, ms.
    """

    def __init__(
        self,
        target: Callable[[], Copies],
        source: BridgeSource,
        moved: Progressed,
        tick_tail_ms: int = 0,
    ) -> None:
        self.copied = 0
        self.read = 0
        self._target = target
        self._source = source
        self._moved = moved
        self._tick_tail_ms = tick_tail_ms
        self._total = source.size()

    def run(self, stop: StopFlag, say: Callable[[str], None], *, follow: bool) -> None:
        """Copy to the end; with `follow` go on, also after source or target was away.

        Raises
        ------
        LogUnavailable
            Without `follow`: one of them is away for longer than its client waits.
        UsageError
            The target was filled by somebody else, or from another source.
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
        bridge = self._target()
        source = self._source
        try:
            bridge.copy(self._until(source.scan(bridge.names), stop))
            if not stop.is_set():
                bridge.refuse_other_source()
            while follow and not stop.is_set():
                stop.wait(_FOLLOW_EVERY_S)
                bridge.copy(self._until(source.more(bridge.names), stop))
                if source.frontier_ms and isinstance(bridge, Bridge):
                    # One less: what comes next may have arrived in that very millisecond.
                    bridge.tick(source.frontier_ms - 1, self._tick_tail_ms)
        finally:
            self.copied += bridge.copied

    def _until(self, rows: Iterable[Row], stop: StopFlag) -> Iterator[Row]:
        """Yield rows until it is told to stop."""
        for row in rows:
            yield row
            self.read += 1
            if self.read % _LOOK_EVERY == 0:
                self._moved(self.read, max(self._total, self.read))
                if stop.is_set():
                    return
