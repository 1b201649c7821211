"""The log on a Kafka cluster: a topic for each stream, Ticks in each partition of the event topics.

Log time is the broker's (LogAppendTime), so it is the same for whoever reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from connectors.clocks import WallClock
from connectors.entries import check_stream, entry
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import Incoming, KafkaClient, Outgoing, Place, topics_missing
from connectors.kafka_reading import TICKS, KafkaTail, Span, merged, newest
from connectors.logs import Clock, Row
from connectors.registry import RegistryFormat
from schemas.codec import current, encode
from schemas.errors import LogUnavailable, UnknownSchema
from schemas.operations import Tick
from schemas.streams import STREAMS

TOPIC_STREAMS = tuple(name for name in STREAMS if name != TICKS)
"""The streams that are topics."""
TICKED_STREAMS = (
    *("frames", "analyses", "decisions", "impressions", "rewards", "visits"),
    "outcomes",
)
"""The event streams: what operators with timers, or with a watermark to keep, read."""
JOINED_STREAMS = ("decisions", "impressions", "analyses", "rewards", "visits")
"""What the join reads."""
TICK_PARTITIONS = 1_000
"""A Tick in partition 3 of the n-th stream is in partition n * 1,000 + 3 of ``ticks``: its place
is its own, though it lies among the events."""

_WAIT_STEP_S = 1.0


class KafkaLog:
    """The log on a Kafka cluster.

    For one thread at a time; appends may come from several.

    Parameters
    ----------
    client : KafkaClient
        Connected to the cluster.
    clock : callable, optional
        Returns ms since 1970 UTC: this machine's estimate of the broker's clock.
    registry : RegistryFormat, optional
        Records are written in the Confluent wire format of this registry, and read in both.
    """

    def __init__(
        self,
        client: KafkaClient,
        clock: Clock | None = None,
        registry: RegistryFormat | None = None,
    ) -> None:
        self.address: KafkaAddress = client.address
        self.name = str(client.address)
        self.clock = clock or WallClock()
        self._client = client
        self._registry = registry
        self._counts: dict[str, int] = {}
        self._streams = {self.address.topic(name): name for name in TOPIC_STREAMS}

    def wait_for_broker(self, wait_s: float, say: Callable[[str], None]) -> None:
        """Wait until a broker answers, and say so at the first failure.

        Parameters
        ----------
        wait_s : float
            How long to wait, seconds.
        say : callable
            Told once, in words, that and how long it waits.

        Raises
        ------
        LogUnavailable
            When none answered.
        """
        until_s = time.monotonic() + wait_s
        said = False
        while True:
            try:
                left_ms = int((until_s - time.monotonic()) * 1000)
                self._client.partitions(self._streams, max(1, min(1_000, left_ms)))
            except LogUnavailable:
                if time.monotonic() >= until_s:
                    raise
                if not said:
                    say(f"no broker of {self.name} answers; waiting {wait_s:.0f} s for one")
                said = True
                time.sleep(min(_WAIT_STEP_S, max(0.0, until_s - time.monotonic())))
            else:
                return

    # Writing

    def append(self, stream: str, value: Any) -> list[tuple[int, int]]:
        """Append one record durably; return its (partition, offset), of a Tick several.

        A Tick goes into each partition of the event topics.

        Raises
        ------
        LogUnavailable
            When no broker took it within the delivery timeout. It may have been written, but is
            not written any more: append it again, readers take the first of an id.
        UsageError
            When it cannot be written.
        """
        return self.append_all([(stream, value)])

    def append_all(self, records: Iterable[tuple[str, Any]]) -> list[tuple[int, int]]:
        """Append several, in this order within each partition."""
        return self.append_bytes([entry(stream, value) for stream, value in records])

    def append_bytes(self, records: Sequence[tuple[str, str, bytes]]) -> list[tuple[int, int]]:
        """Append (stream, key, bytes) as they came."""
        outgoing: list[Outgoing] = []
        for stream, key, value in records:
            if stream == TICKS:
                places = self._places(TICKED_STREAMS)
                outgoing += [self._outgoing(place, key, value) for place in places]
            else:
                outgoing.append(self._outgoing((self._topic(stream), None), key, value))
        return self._client.produce(outgoing)

    def append_at(self, rows: Iterable[Row]) -> list[tuple[int, int]]:
        """Append rows with the log time they have, to topics that take the writer's (bridged).

        There must be one writer for each partition. A Tick goes into each partition, as in
        `append`.
        """
        outgoing: list[Outgoing] = []
        for row in rows:
            targets: Sequence[tuple[str, int | None]] = (
                self._places(TICKED_STREAMS)
                if row.stream == TICKS
                else [(self._topic(row.stream), None)]
            )
            outgoing += [
                self._outgoing(target, row.key, row.value, row.log_time_ms) for target in targets
            ]
        return self._client.produce(outgoing)

    def append_ticks(self, tick: Tick, places: Iterable[tuple[str, int]]) -> None:
        """Append a Tick to some (stream, partition) only: those that stand still."""
        value = encode(tick)
        self._client.produce(
            [self._outgoing((self._topic(s), n), tick.ticker, value) for s, n in places]
        )

    def _outgoing(
        self, place: tuple[str, int | None], key: str, value: bytes, time_ms: int | None = None
    ) -> Outgoing:
        topic, partition = place
        if self._registry is not None:
            value = self._registry.to_wire(topic, value)
        return Outgoing(topic, key.encode(), value, time_ms, partition)

    # Reading

    def scan(self, *streams: str, key: str | None = None) -> Iterator[Row]:
        """Yield all there is now in some streams (in all, where none is named).

        In the order of log time, then of the streams as named, of partition and position. Ticks
        come only where `ticks` is asked for; ``ticks`` alone: all of them.
        """
        yield from merged(
            self._client, self._spans(_read_for(streams)), self._row, _wanted(streams, key)
        )

    def scan_from(
        self, places: Mapping[tuple[str, int], int], *streams: str, key: str | None = None
    ) -> Iterator[Row]:
        """Yield what comes behind the given (stream, partition) places, as a bookmark names them.

        A partition without a place is read from its beginning.
        """
        spans = self._spans(_read_for(streams))
        floors = {
            where: places.get((self._streams[where[0]], where[1]), span.begin)
            for where, span in spans.items()
        }
        spans = {w: Span(max(span.begin, floors[w]), span.end) for w, span in spans.items()}
        yield from merged(self._client, spans, self._row, _wanted(streams, key))

    def tail(self, *streams: str, key: str | None = None) -> KafkaTail:
        """Follow some streams from their present end."""
        spans = self._spans(_read_for(streams))
        floors = newest(self._client, spans, 1, self._row, lambda _row: True)
        reader = self._client.reader({place: span.end for place, span in spans.items()})
        floors_ms = {place: rows[-1].log_time_ms for place, rows in floors.items() if rows}
        return KafkaTail(reader, floors_ms, self._row, _wanted(streams, key))

    def last(self, stream: str, count: int) -> list[Row]:
        """Return the newest records of a stream, Ticks aside, oldest first."""
        spans = self._spans(_read_for((stream,)))
        found = newest(self._client, spans, count, self._row, _wanted((stream,), None))
        rows = [row for part in found.values() for row in part]
        rows.sort(key=lambda row: (row.log_time_ms, row.partition, row.position))
        return rows[-count:] if count else []

    def newest(self, *streams: str, ticks: bool = True) -> dict[tuple[str, int], Row | None]:
        """Return the newest record of each (stream, partition); None: there is none.

        Parameters
        ----------
        streams : str
            The streams.
        ticks : bool
            False: the newest that is no Tick.
        """
        spans = self._spans(streams)
        found = newest(self._client, spans, 1, self._row, lambda row: ticks or row.stream != TICKS)
        return {
            (self._streams[topic], number): (rows[-1] if rows else None)
            for (topic, number), rows in found.items()
        }

    def counts(self) -> dict[str, int]:
        """Return how many offsets each stream holds; Ticks count with their stream.

        Compaction and transactions leave gaps, which count.
        """
        found = dict.fromkeys(STREAMS, 0)
        for (topic, _), span in self._spans(TOPIC_STREAMS).items():
            found[self._streams[topic]] += span.end - span.begin
        return found

    def complete_through_ms(self) -> int:
        """Return the lowest newest log time of the join's partitions, ms; 0: one is empty."""
        rows = self.newest(*JOINED_STREAMS).values()
        return min(0 if row is None else row.log_time_ms for row in rows)

    def bookmark(self, name: str) -> dict[tuple[str, int], int]:
        """Return the next position to read of each (stream, partition), as last set."""
        found = {
            (self._streams[topic], number): offset
            for (topic, number), offset in self._client.committed(_group(name)).items()
            if topic in self._streams
        }
        for (topic, number), offset in self._client.committed(_group(name, TICKS)).items():
            if topic in self._streams:
                found[TICKS, _tick_partition(self._streams[topic], number)] = offset
        return found

    def set_bookmark(self, name: str, places: dict[tuple[str, int], int]) -> None:
        """Remember how far a reader has come, as the offsets of a consumer group ``pho.name``.

        A cluster forgets the offsets of a group without members, after
        offsets.retention.minutes (seven days by default).
        """
        records: dict[Place, int] = {}
        ticks: dict[Place, int] = {}
        for (stream, number), offset in places.items():
            if stream == TICKS:
                at, partition = divmod(number, TICK_PARTITIONS)
                ticks[self.address.topic(list(STREAMS)[at]), partition] = offset
            else:
                check_stream(stream)
                records[self.address.topic(stream), number] = offset
        for group, offsets in ((_group(name), records), (_group(name, TICKS), ticks)):
            if offsets:
                self._client.commit(group, offsets)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _topic(self, stream: str) -> str:
        check_stream(stream)
        self._partitions((stream,))
        return self.address.topic(stream)

    def _partitions(self, streams: Iterable[str]) -> dict[str, int]:
        """Return the partitions of each stream's topic, asking for those not yet known."""
        unknown = [name for name in streams if name not in self._counts]
        if unknown:
            topics = {name: self.address.topic(name) for name in unknown}
            wait_ms = self._client.delivery_timeout_ms
            found = self._client.partitions(topics.values(), wait_ms)
            missing = [topic for topic in topics.values() if topic not in found]
            if missing:
                raise topics_missing(self.address, f"has no topic {', '.join(missing)}")
            self._counts.update({name: found[topic] for name, topic in topics.items()})
        return {name: self._counts[name] for name in streams}

    def _places(self, streams: Iterable[str]) -> list[Place]:
        return [
            (self.address.topic(name), number)
            for name, count in self._partitions(streams).items()
            for number in range(count)
        ]

    def _spans(self, streams: Iterable[str]) -> dict[Place, Span]:
        places = self._places(streams)
        begins, ends = self._client.starts(places), self._client.ends(places)
        return {place: Span(begins[place], ends[place]) for place in places}

    def _row(self, record: Incoming) -> Row:
        value = record.value or b""
        if self._registry is not None:
            # Unknown there: the bytes as they came, which whoever decodes them dead-letters.
            with suppress(UnknownSchema):
                value = self._registry.from_wire(value)
        stream, partition = self._streams[record.topic], record.partition
        if value.startswith(_TICK_HEADER):
            stream, partition = TICKS, _tick_partition(stream, partition)
        key = (record.key or b"").decode("utf-8", "replace")
        return Row(record.offset, stream, key, record.timestamp_ms, value, partition)


_TICK_HEADER = current("Tick").header


def _tick_partition(stream: str, partition: int) -> int:
    return list(STREAMS).index(stream) * TICK_PARTITIONS + partition


def _group(name: str, kind: str = "") -> str:
    return f"pho.{name}.{kind}" if kind else f"pho.{name}"


def _read_for(streams: tuple[str, ...]) -> tuple[str, ...]:
    """Return the streams whose topics are read; `ticks` alone means all that carry any."""
    for stream in streams:
        check_stream(stream)
    named = tuple(dict.fromkeys(name for name in streams if name != TICKS))
    if named:
        return named
    return TICKED_STREAMS if streams else TOPIC_STREAMS


def _wanted(streams: tuple[str, ...], key: str | None) -> Callable[[Row], bool]:
    chosen = frozenset(streams or STREAMS)
    return lambda row: row.stream in chosen and (key is None or row.key == key)
