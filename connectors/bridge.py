"""The bridge: copies an embedded log, an archive or Kinesis into topics on Kafka, times kept.

Each record carries its place in the source as a header. A bridge that starts looks at the newest
record of each partition and goes on behind it there: however often it was killed, each partition
holds each record exactly once, in the order of the source.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache

from connectors.bridge_batches import in_batches, other_source
from connectors.entries import check_stream
from connectors.kafka_clients import KafkaClient, Outgoing, Place, partition_of
from connectors.kafka_log import TICKED_STREAMS
from connectors.logs import Row
from connectors.reading_back import newest_of
from connectors.registry import RegistryFormat
from pipelines.topology import TICK_INTERVAL_MS
from schemas.codec import encode
from schemas.errors import LogUnavailable, UsageError
from schemas.operations import Tick

POSITION = "pho-position"
"""The header: stream, partition and position of the record in its source."""
TICKS = "ticks"
TICKER = "bridge"
NO_PLACE = b"-"
"""In the header of a Tick before which nothing was copied to its partition."""
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
    source_forgets : bool
        True: the source deletes what is old, so its first row may lie behind what was copied.

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
        *,
        source_forgets: bool = False,
    ) -> None:
        self.copied = 0
        self._source_forgets = source_forgets
        self._registry = registry
        self._client = client
        self._streams = tuple(stream for stream in streams if stream != TICKS)
        for stream in self._streams:
            check_stream(stream)
        self._topics = {stream: client.address.topic(stream) for stream in self._streams}
        self._counts = self._find_partitions()
        self._ticked = [
            (self._topics[stream], number)
            for stream in self._streams
            if stream in TICKED_STREAMS
            for number in range(self._counts[self._topics[stream]])
        ]
        self._next: dict[Place, int] = {}
        # Of each partition that holds something: log time and header of its newest record.
        self._newest: dict[Place, tuple[int, bytes]] = {}
        # Of a partition that holds something: the header of its newest record, until the source
        # comes to that record.
        self._sought: dict[Place, bytes] = {}
        self._moved_ms = 0
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
        return in_batches(rows, self._wanted, self._write, BATCH_RECORDS, BATCH_BYTES)

    def refuse_other_source(self) -> None:
        """Refuse topics whose newest records the source, read to its end, did not hold.

        Raises
        ------
        UsageError
            Names one of them.
        """
        if self._source_forgets:
            return  # it may have forgotten them last
        for (topic, number), header in self._sought.items():
            place = f"{topic}[{number}]"
            raise other_source(place, header.decode())

    def _wanted(self, row: Row) -> Iterator[Outgoing]:
        """Yield the copies of a row that its partitions do not hold yet."""
        header = f"{row.stream}/{row.partition}/{row.position}".encode()
        key = row.key.encode()
        self._moved_ms = max(self._moved_ms, row.log_time_ms)
        for topic, number in self._places(row, key):
            if self._sought:
                sought = self._sought.get((topic, number))
                if sought is not None:
                    if sought == header:
                        del self._sought[topic, number]
                    elif self._is_behind(row, (topic, number)):
                        del self._sought[topic, number]
                        yield self._copied(row, (topic, number), key, header)
                    continue
            yield self._copied(row, (topic, number), key, header)

    def _is_behind(self, row: Row, place: Place) -> bool:
        """Whether a source that forgets had forgotten the record that is sought, before this row.

        Rows come in the order of their times, and so were copied: what is younger than the newest
        record here was not.
        """
        return self._source_forgets and row.log_time_ms > self._newest[place][0]

    def _copied(self, row: Row, place: Place, key: bytes, header: bytes) -> Outgoing:
        # Times that a source only knows roughly must not go back here.
        newest_ms = self._newest.get(place, (0, b""))[0]
        return self._outgoing(place, key, row.value, max(row.log_time_ms, newest_ms), header)

    def _outgoing(
        self, place: Place, key: bytes, value: bytes, log_time_ms: int, header: bytes
    ) -> Outgoing:
        topic, number = place
        if self._registry is not None:
            value = self._registry.to_wire(topic, value)
        self._newest[place] = (log_time_ms, header)
        return Outgoing(topic, key, value, log_time_ms, number, ((POSITION, header),))

    def tick(self, at_ms: int, tail_ms: int) -> None:
        """Append a Tick to each event partition that stood still, for a source that has none.

        It carries the place of the record before it, so that a new bridge still finds that. Nothing
        may come later that is older than it.

        Parameters
        ----------
        at_ms : int
            Everything of the source before this log time was copied, ms.
        tail_ms : int
            Ticks end so long after the newest record that is none, ms.
        """
        if at_ms - self._moved_ms > tail_ms or (self._sought and not self._source_forgets):
            return
        tick = encode(Tick(at_ms, TICKER))
        self._write(
            [
                self._outgoing(place, TICKER.encode(), tick, at_ms, header)
                for place in self._ticked
                for newest_ms, header in (self._newest.get(place, (0, NO_PLACE)),)
                if at_ms - newest_ms >= TICK_INTERVAL_MS
            ]
        )

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
                self._newest[place] = (newest[place].timestamp_ms, header or NO_PLACE)
                if header is None:
                    problem = f"{topic}[{number}] holds records that no bridge wrote"
                    raise UsageError(problem, "Bridge into topics of another prefix")
                if header != NO_PLACE:
                    self._sought[place] = header


@lru_cache(maxsize=100_000)
def _partition_of(key: bytes, count: int) -> int:
    return partition_of(key, count)
