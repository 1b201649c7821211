"""The rows of some streams on Kinesis in one order, the same however often they are read.

The order of arrival, then of the streams as named, of shard and position. A row is given only when
every shard was read up to its time, so that nothing can come before it any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_log import to_row
from connectors.kinesis_source import READS_PER_SECOND, Batch, KinesisSource, Received
from connectors.kinesis_streams import KINESIS_STREAMS
from connectors.logs import Row

_POLL_S = 0.5
_AHEAD = 50_000
"""Records held while shards are behind; then only the slowest is read on."""


class KinesisRows:
    """What is copied from Kinesis to another log.

    Parameters
    ----------
    client : boto3 client
        Of Kinesis.
    address : KinesisAddress
        The log.
    reads_per_second : float
        How often a shard is asked.
    """

    def __init__(
        self, client: Any, address: KinesisAddress, reads_per_second: float = READS_PER_SECOND
    ) -> None:
        self.name = str(address)
        self.frontier_ms = 0
        """Everything that arrived before was given, ms by Kinesis' clock."""
        self._client = client
        self._address = address
        self._reads_per_second = reads_per_second
        self._source: KinesisSource | None = None
        self._order: dict[str, int] = {}
        self._through_ms: dict[tuple[str, str], int] = {}
        self._floors_ms: dict[tuple[str, int], int] = {}
        self._waiting: list[tuple[int, int, int, int, int, Received]] = []

    def scan(self, *streams: str) -> Iterator[Row]:
        """Begin at the oldest rows that are still there; yield all that are there now.

        Raises
        ------
        LogUnavailable
            Kinesis cannot be read.
        """
        self.close()
        names = [name for name in streams or KINESIS_STREAMS if name in KINESIS_STREAMS]
        self._order = {name: number for number, name in enumerate(names)}
        self._through_ms, self._floors_ms, self._waiting = {}, {}, []
        self.frontier_ms = 0
        places: dict[str, dict[str, str]] = {name: {} for name in names}
        source = KinesisSource(self._client, self._address, places, self._reads_per_second)
        self._source = source
        yield from self.more()
        begun_ms = source.clock.at(source.clock.local_ms())
        while self.frontier_ms < begun_ms:
            yield from self.more()

    def more(self) -> Iterator[Row]:
        """Look at the shards whose turn it is, and yield what became complete.

        Raises
        ------
        LogUnavailable
            Kinesis cannot be read; begin again with `scan`.
        """
        source = self._source
        if source is None:
            return
        among = None
        if len(self._waiting) > _AHEAD:
            slowest_ms = min(self._through_ms.get(place, 0) for place in source.reading)
            among = [p for p in source.reading if self._through_ms.get(p, 0) == slowest_ms]
        self._note(source.poll(_POLL_S, among))
        through_ms = (self._through_ms.get(place, 0) for place in source.reading)
        self.frontier_ms = max(self.frontier_ms, min(through_ms, default=0))
        while self._waiting and self._waiting[0][0] < self.frontier_ms:
            yield to_row(heapq.heappop(self._waiting)[-1], self._floors_ms)

    def _note(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            order = self._order[batch.stream]
            for one in batch.records:
                entry = (one.arrival_ms, order, one.shard, one.sequence, one.nth, one)
                heapq.heappush(self._waiting, entry)
            place = batch.stream, batch.shard_id
            self._through_ms[place] = max(self._through_ms.get(place, 0), batch.through_ms)

    def close(self) -> None:
        """Stop reading."""
        if self._source is not None:
            self._source.close()
            self._source = None
