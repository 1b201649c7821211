"""The bridge: copies an embedded log, or an archive, into topics on Kafka; log times are kept.

Each record carries its place in the source as a header. A bridge that starts looks at the newest
record of each partition and goes on behind it there: however often it was killed, each partition
holds each record exactly once, in the order of the source.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache

from connectors.kafka_clients import KafkaClient, Outgoing, Place, partition_of
from connectors.kafka_log import TICKED_STREAMS
from connectors.logs import Row
from connectors.reading_back import newest_of
from connectors.registry import RegistryFormat
from schemas.errors import LogUnavailable, UsageError
from schemas.streams import STREAMS

POSITION = "pho-position"
"""The header: stream, partition and position of the record in its source."""
TICKS = "ticks"
BATCH_RECORDS = 20_000
BATCH_BYTES = 8_000_000
# A bridge killed a moment ago may have requests on their way that its broker has not written yet.
_SETTLE_S = 0.5


class Bridge:
    """Copies from one source into the topics of one cluster.

    Parameters
    ----------
    client : KafkaClient
        Writes; nobody else writes to these topics.
    streams : sequence of str
        What is copied. Ticks go with the event streams among them, to each of their partitions.
    registry : RegistryFormat or None
        The copies are in its format; None: bytes are copied as they are.

    Raises
    ------
    UsageError
        A stream is none, or a topic holds records that no bridge wrote.
    LogUnavailable
        A topic is missing, or the broker is away.
    """

    def __init__(
        self,
        client: KafkaClient,
        streams: Sequence[str],
        registry: RegistryFormat | None = None,
    ) -> None:
        self.copied = 0
        self._registry = registry
        self._client = client
        self._streams = tuple(stream for stream in streams if stream != TICKS)
        for stream in self._streams:
            if stream not in STREAMS:
                problem = f"there is no stream {stream!r}"
                raise UsageError(problem, f"There are {', '.join(STREAMS)}")
        self._topics = {stream: client.address.topic(stream) for stream in self._streams}
        self._counts = self._find_partitions()
        self._ticked = [
            (self._topics[stream], number)
            for stream in self._streams
            if stream in TICKED_STREAMS
            for number in range(self._counts[self._topics[stream]])
        ]
        self._next: dict[Place, int] = {}
        # Of a partition that holds something: the header of its newest record, until the source
        # comes to that record.
        self._sought: dict[Place, bytes] = {}
        self._find_places()

    @property
    def names(self) -> tuple[str, ...]:
        """What to read of the source: the streams, and its Ticks where they have to go too."""
        return (*self._streams, TICKS) if self._ticked else self._streams

    def copy(self, rows: Iterable[Row]) -> Row | None:
        """Copy what the topics do not hold of these rows of the source; return the last row.

        The first rows given to a bridge are those from the source's beginning on.

        Raises
        ------
        LogUnavailable
            The broker is away for longer than the client waits, or somebody else writes to the
            topics. What was copied stays; make a new bridge, and it goes on behind that.
        """
        last = None
        batch: list[Outgoing] = []
        size = 0
        for row in rows:
            last = row
            for record in self._wanted(row):
                batch.append(record)
                size += len(record.value)
            if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
                self._write(batch)
                batch, size = [], 0
        self._write(batch)
        return last

    def refuse_other_source(self) -> None:
        """Refuse topics whose newest records the source, read to its end, did not hold.

        Raises
        ------
        UsageError
            Names one of them.
        """
        for (topic, number), header in self._sought.items():
            problem = f"{topic}[{number}] ends with {header.decode()!r}, which the source lacks"
            cure = "It was filled from another log: use another prefix, or the log it came from"
            raise UsageError(problem, cure)

    def _wanted(self, row: Row) -> Iterator[Outgoing]:
        """Yield the copies of a row that its partitions do not hold yet."""
        header = f"{row.stream}/{row.partition}/{row.position}".encode()
        key = row.key.encode()
        for topic, number in self._places(row, key):
            if self._sought:
                sought = self._sought.get((topic, number))
                if sought is not None:
                    if sought == header:
                        del self._sought[topic, number]
                    continue
            headers = ((POSITION, header),)
            value = row.value
            if self._registry is not None:
                value = self._registry.to_wire(topic, value)
            yield Outgoing(topic, key, value, row.log_time_ms, number, headers)

    def _places(self, row: Row, key: bytes) -> Collection[Place]:
        if row.stream == TICKS:
            return self._ticked
        topic = self._topics[row.stream]
        return ((topic, _partition_of(key, self._counts[topic])),)

    def _write(self, batch: Sequence[Outgoing]) -> None:
        if not batch:
            return
        written = self._client.produce(batch)
        for record, (number, offset) in zip(batch, written, strict=True):
            place = (record.topic, number)
            if offset != self._next[place]:
                problem = f"somebody else writes to {record.topic}[{number}]"
                cure = "End the other bridge; make the topics anew if a record stands there twice"
                raise LogUnavailable(problem, cure)
            self._next[place] = offset + 1
        self.copied += len(batch)

    def _find_partitions(self) -> dict[str, int]:
        counts = self._client.partitions(self._topics.values())
        missing = [topic for topic in self._topics.values() if topic not in counts]
        if missing:
            address = self._client.address
            problem = f"{address} has no topic {', '.join(missing)}"
            raise LogUnavailable(problem, f"pho topics create --bridged --log {address}")
        return counts

    def _find_places(self) -> None:
        """Find where each partition ends, when nothing moves there any more."""
        places = [
            (topic, number) for topic, count in self._counts.items() for number in range(count)
        ]
        ends = self._client.ends(places)
        before: dict[Place, int] = {}
        while ends != before:
            before = ends
            time.sleep(_SETTLE_S)
            ends = self._client.ends(places)
        self._next = ends
        starts = self._client.starts(places)
        newest = newest_of(self._client, places)
        for topic, number in places:
            place = (topic, number)
            if ends[place] and ends[place] == starts[place]:
                problem = f"{topic}[{number}] was emptied by its retention"
                cure = "Old log times need topics without one: pho topics create --bridged --mend"
                raise UsageError(problem, cure)
            if place in newest:
                header = dict(newest[place].headers).get(POSITION)
                if header is None:
                    problem = f"{topic}[{number}] holds records that no bridge wrote"
                    raise UsageError(problem, "Bridge into topics of another prefix")
                self._sought[place] = header


@lru_cache(maxsize=100_000)
def _partition_of(key: bytes, count: int) -> int:
    return partition_of(key, count)
