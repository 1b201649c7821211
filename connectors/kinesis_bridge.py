"""The bridge to Kinesis: copies another log into streams there; log times and places are kept.

Kinesis has neither headers nor log times of ours, so each record carries both in the tags of a
packed record (connectors/kinesis_aggregation.py). A bridge that starts reads what the streams hold
and passes over it: however often it was killed, each stream holds each record once, those of a key
in the order of the source. Ticks stay behind: time passes on Kinesis by itself.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from connectors.bridge_batches import in_batches, other_source
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_aggregation import Part
from connectors.kinesis_log import LOG_TIME_TAG, PLACE_TAG
from connectors.kinesis_shards import SHARD_END
from connectors.kinesis_sink import DELIVERY_TIMEOUT_MS, KinesisSink
from connectors.kinesis_source import READS_PER_SECOND, KinesisSource, Received
from connectors.kinesis_streams import KINESIS_STREAMS
from connectors.logs import Row
from schemas.errors import UsageError

BATCH_RECORDS = 5_000
BATCH_BYTES = 4_000_000
# A bridge killed a moment ago may have calls on their way that Kinesis has not written yet.
_SETTLE_S = 0.5
_POLL_S = 0.5

Source = tuple[str, int]
"""A stream and a partition of the source."""


class KinesisBridge:
    """Copies from one source into the streams of one log on Kinesis.

    Parameters
    ----------
    client : boto3 client
        Of Kinesis; nobody else writes to these streams.
    address : KinesisAddress
        The log.
    streams : sequence of str
        What is copied.
    delivery_timeout_ms : int
        How long records that Kinesis does not take are tried.
    reads_per_second : float
        How often a shard is asked while it looks what is there.

    Raises
    ------
    UsageError
        A stream holds records that no bridge wrote.
    LogUnavailable
        A stream is missing, or Kinesis cannot be reached.
    """

    def __init__(
        self,
        client: Any,
        address: KinesisAddress,
        streams: Sequence[str],
        delivery_timeout_ms: int = DELIVERY_TIMEOUT_MS,
        reads_per_second: float = READS_PER_SECOND,
    ) -> None:
        self.copied = 0
        self._streams = tuple(stream for stream in streams if stream in KINESIS_STREAMS)
        self._address = address
        self._sink = KinesisSink(client, address, delivery_timeout_ms)
        self._there: defaultdict[Source, set[int]] = defaultdict(set)
        self._look(KinesisSource(client, address, {s: {} for s in self._streams}, reads_per_second))
        self._lowest = {source: min(places) for source, places in self._there.items()}
        self._sought = {source: max(places) for source, places in self._there.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """What to read of the source."""
        return self._streams

    def copy(self, rows: Iterable[Row]) -> Row | None:
        """Copy what the streams do not hold of these rows of the source; return the last row.

        Raises
        ------
        LogUnavailable
            Kinesis does not take them. What was copied stays; make a new bridge, and it goes on
            behind that.
        UsageError
            A record is too large for Kinesis.
        """
        return in_batches(rows, self._wanted, self._write, BATCH_RECORDS, BATCH_BYTES)

    def refuse_other_source(self) -> None:
        """Refuse streams whose newest records the source, read to its end, did not hold.

        Raises
        ------
        UsageError
            Names one of them.
        """
        for (stream, partition), position in self._sought.items():
            name = self._address.stream_name(stream)
            raise other_source(name, f"{stream}/{partition}/{position}")

    def _wanted(self, row: Row) -> tuple[Row, ...]:
        return () if row.stream not in self._streams or self._is_there(row) else (row,)

    def _is_there(self, row: Row) -> bool:
        source = row.stream, row.partition
        if self._sought.get(source) == row.position:
            del self._sought[source]
        lowest = self._lowest.get(source)
        # What lies below the lowest was there too, and was trimmed since.
        return lowest is not None and (row.position < lowest or row.position in self._there[source])

    def _write(self, rows: Sequence[Row]) -> None:
        streams: defaultdict[str, list[Part]] = defaultdict(list)
        for row in rows:
            place = f"{row.stream}/{row.partition}/{row.position}"
            tags = ((LOG_TIME_TAG, str(row.log_time_ms)), (PLACE_TAG, place))
            streams[row.stream].append(Part(row.key, row.value, tags))
        for stream, parts in streams.items():
            self._sink.put(stream, parts)
        self.copied += len(rows)

    def _look(self, source: KinesisSource) -> None:
        """Take note of every record that is there."""
        time.sleep(_SETTLE_S)
        try:
            at_end: set[tuple[str, str]] = set()
            while lacking := source.reading - at_end:
                for batch in source.poll(_POLL_S, lacking):
                    for one in batch.records:
                        stream, partition, position = self._place_of(one)
                        self._there[stream, partition].add(position)
                    if not batch.behind_ms or batch.place == SHARD_END:
                        at_end.add((batch.stream, batch.shard_id))
        finally:
            source.close()

    def _place_of(self, record: Received) -> tuple[str, int, int]:
        stream, partition, position = (dict(record.tags).get(PLACE_TAG, "") + "//").split("/")[:3]
        if stream != record.stream or not (partition.isdecimal() and position.isdecimal()):
            name = self._address.stream_name(record.stream)
            problem = f"{name} holds records that no bridge wrote"
            raise UsageError(problem, "Bridge into streams of another prefix")
        return stream, int(partition), int(position)
