"""What a bridge copies from: a folder's log, an archive, topics on Kafka, streams on Kinesis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from connectors.archive import ArchiveReader
from connectors.embedded_log import EmbeddedLog
from connectors.kafka_log import KafkaLog
from connectors.kinesis_rows import KinesisRows
from connectors.logs import Row


class BridgeSource(Protocol):
    """A log that is read from its beginning, and perhaps followed."""

    name: str
    """Where it is, for a person to read."""
    forgets: bool
    """Whether it deletes what is old."""

    @property
    def frontier_ms(self) -> int:
        """Everything of it before this log time was given, ms; 0: it has Ticks of its own."""
        ...

    def size(self) -> int:
        """Return about how many records there are; 0: nobody knows."""
        ...

    def scan(self, streams: Sequence[str]) -> Iterator[Row]:
        """Yield all rows there are now, always in the same order."""
        ...

    def more(self, streams: Sequence[str]) -> Iterator[Row]:
        """Yield what came since."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class FolderSource:
    """The log in a folder, or an archive, which does not grow."""

    forgets = False
    frontier_ms = 0

    def __init__(self, opened: EmbeddedLog | ArchiveReader) -> None:
        self.name = str(opened.name)
        self._opened = opened
        self._after = 0

    def size(self) -> int:
        """Return how many records there are."""
        if isinstance(self._opened, EmbeddedLog):
            return self._opened.end().position
        return sum(part.rows for part in self._opened.manifest.parts)

    def scan(self, streams: Sequence[str]) -> Iterator[Row]:
        """Yield all rows there are now, in the log's order."""
        self._after = 0
        return self._noted(self._opened.scan(*streams))

    def more(self, streams: Sequence[str]) -> Iterator[Row]:
        """Yield what came since."""
        if not isinstance(self._opened, EmbeddedLog):
            return iter(())
        return self._noted(self._opened.scan(*streams, after=self._after))

    def _noted(self, rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            self._after = row.position
            yield row

    def close(self) -> None:
        """Close the file."""
        if isinstance(self._opened, EmbeddedLog):
            self._opened.close()


class KafkaSource:
    """Topics on Kafka."""

    forgets = True
    frontier_ms = 0

    def __init__(self, log: KafkaLog) -> None:
        self.name = log.name
        self._log = log
        self._places: dict[tuple[str, int], int] = {}

    def size(self) -> int:
        """Return about how many records there are; Ticks count with their stream."""
        return sum(self._log.counts().values())

    def scan(self, streams: Sequence[str]) -> Iterator[Row]:
        """Yield all rows there are now, in the order of log time."""
        self._places = {}
        return self._noted(self._log.scan(*streams))

    def more(self, streams: Sequence[str]) -> Iterator[Row]:
        """Yield what came since."""
        return self._noted(self._log.scan_from(dict(self._places), *streams))

    def _noted(self, rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            self._places[row.stream, row.partition] = row.position + 1
            yield row

    def close(self) -> None:
        """Close the connections."""
        self._log.close()


class KinesisStreamsSource:
    """Streams on Kinesis; the frontier stands for the Ticks it has not."""

    forgets = True

    def __init__(self, rows: KinesisRows) -> None:
        self.name = rows.name
        self._rows = rows

    @property
    def frontier_ms(self) -> int:
        """Everything that arrived before was given, ms."""
        return self._rows.frontier_ms

    def size(self) -> int:
        """Return 0: Kinesis does not tell."""
        return 0

    def scan(self, streams: Sequence[str]) -> Iterator[Row]:
        """Yield all rows there are now, in the order of their arrival."""
        return self._rows.scan(*streams)

    def more(self, _streams: Sequence[str]) -> Iterator[Row]:
        """Yield what came since and is complete."""
        return self._rows.more()

    def close(self) -> None:
        """Stop reading."""
        self._rows.close()
