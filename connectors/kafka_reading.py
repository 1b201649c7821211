"""How records of many partitions are read: merged in log time, from the end, or as they come."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from connectors.kafka_clients import (
    REQUEST_TIMEOUT_MS,
    Incoming,
    KafkaClient,
    KafkaReader,
    Place,
    unavailable,
)
from connectors.logs import Row

TICKS = "ticks"
_AHEAD = 5_000
"""Records held of one partition while others are behind; reading it pauses there."""
_POLL_S = 1.0
_LOOK_BACK = 64
"""Records read back from the end at first; four times as many at each further attempt."""

ToRow = Callable[[Incoming], Row]
Wanted = Callable[[Row], bool]


class Span(NamedTuple):
    """What is to be read of one partition."""

    begin: int
    """The first offset."""
    end: int
    """The offset behind the last."""


class _Partition:
    """One partition in a merge: what was read of it and not yet given."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.rows: deque[Row] = deque()
        self.highest_ms = 0
        self.done = False
        self.paused = False

    def take(self, row: Row) -> None:
        """Keep a row; its log time is the highest of its partition so far, or later."""
        self.highest_ms = max(self.highest_ms, row.log_time_ms)
        self.rows.append(row._replace(log_time_ms=self.highest_ms))


def merged(
    client: KafkaClient, spans: Mapping[Place, Span], to_row: ToRow, wanted: Wanted
) -> Iterator[Row]:
    """Yield the records of some partitions in the order of log time.

    At one log time in the order in which `spans` names the partitions, then of position.

    Parameters
    ----------
    client : KafkaClient
        Where they are.
    spans : mapping
        What to read of each (topic, partition).
    to_row : callable
        Makes our row of a record.
    wanted : callable
        Says whether a row is asked for; the others count for log time all the same.

    Raises
    ------
    LogUnavailable
        When nothing came for `REQUEST_TIMEOUT_MS`.
    """
    order = {place: number for number, place in enumerate(spans)}
    parts = {p: _Partition(span.end) for p, span in spans.items() if span.begin < span.end}
    if not parts:
        return
    reader = client.reader({place: spans[place].begin for place in parts})
    try:
        heap: list[tuple[int, int, Place]] = []
        empty = set(parts)
        while empty or heap:
            if empty:
                _fill(client, reader, parts, empty, to_row)
                for place in [p for p in empty if parts[p].rows or parts[p].done]:
                    empty.remove(place)
                    if parts[place].rows:
                        heapq.heappush(heap, _head(parts[place], order[place], place))
                continue
            place = heapq.heappop(heap)[2]
            part = parts[place]
            row = part.rows.popleft()
            if part.rows:
                heapq.heappush(heap, _head(part, order[place], place))
            elif not part.done:
                empty.add(place)
            if wanted(row):
                yield row
    finally:
        reader.close()


def _head(part: _Partition, order: int, place: Place) -> tuple[int, int, Place]:
    return part.rows[0].log_time_ms, order, place


def _fill(
    client: KafkaClient,
    reader: KafkaReader,
    parts: dict[Place, _Partition],
    empty: Iterable[Place],
    to_row: ToRow,
) -> None:
    """Read until a partition of which nothing is held has a record, or is at its end."""
    hungry = [place for place in empty if parts[place].paused]
    reader.resume(hungry)
    for place in hungry:
        parts[place].paused = False
    until_s = time.monotonic() + REQUEST_TIMEOUT_MS / 1000
    while True:
        records = reader.poll(_POLL_S)
        for record in records:
            part = parts[record.topic, record.partition]
            if record.offset < part.end:
                part.take(to_row(record))
        _hold(reader, parts)
        if any(parts[place].rows or parts[place].done for place in empty):
            return
        if records:
            until_s = time.monotonic() + REQUEST_TIMEOUT_MS / 1000
        elif time.monotonic() >= until_s:
            raise unavailable(client.address, f"sent nothing for {REQUEST_TIMEOUT_MS / 1000:.0f} s")


def _hold(reader: KafkaReader, parts: dict[Place, _Partition]) -> None:
    """Note which partitions are read to their end; pause them, and those too far ahead."""
    stopping = []
    for place, part in parts.items():
        part.done = part.done or reader.position(place) >= part.end
        if not part.paused and (part.done or len(part.rows) > _AHEAD):
            part.paused = True
            stopping.append(place)
    reader.pause(stopping)


def newest(
    client: KafkaClient,
    spans: Mapping[Place, Span],
    count: int,
    to_row: ToRow,
    wanted: Wanted,
) -> dict[Place, list[Row]]:
    """Return the newest wanted records of each partition, at most `count`, oldest first.

    Reads back from the end in growing steps, so that a night of Ticks is passed but a long
    history is not read. Log time is the highest of what was read of the partition.
    """
    found: dict[Place, list[Row]] = {place: [] for place in spans}
    left = {place: span for place, span in spans.items() if span.begin < span.end}
    step = max(_LOOK_BACK, 2 * count)
    while left:
        parts = {p: Span(max(span.begin, span.end - step), span.end) for p, span in left.items()}
        rows: dict[Place, list[Row]] = {place: [] for place in parts}
        for place, row in _each(client, parts, to_row):
            rows[place].append(row)
        for place, part in parts.items():
            found[place] = [row for row in rows[place] if wanted(row)] + found[place]
            left[place] = Span(left[place].begin, part.begin)
        left = {
            place: span
            for place, span in left.items()
            if span.begin < span.end and len(found[place]) < count
        }
        step *= 4
    return {place: rows[-count:] for place, rows in found.items()}


def _each(
    client: KafkaClient, spans: Mapping[Place, Span], to_row: ToRow
) -> Iterator[tuple[Place, Row]]:
    """Yield all rows of some partitions, each in its order; not merged."""
    parts = {place: _Partition(span.end) for place, span in spans.items()}
    reader = client.reader({place: span.begin for place, span in spans.items()})
    try:
        while waiting := [place for place, part in parts.items() if not part.done]:
            _fill(client, reader, parts, waiting, to_row)
            for place, part in parts.items():
                while part.rows:
                    yield place, part.rows.popleft()
    finally:
        reader.close()


class KafkaTail:
    """What comes from now on in some partitions.

    Partitions added to a topic later are not followed.
    """

    def __init__(
        self,
        reader: KafkaReader,
        floors_ms: Mapping[Place, int],
        to_row: ToRow,
        wanted: Wanted,
    ) -> None:
        self._reader = reader
        self._highest_ms = dict(floors_ms)
        self._to_row = to_row
        self._wanted = wanted

    def poll(self, wait_s: float) -> list[Row]:
        """Return what has come, waiting at most so long for the first of it, seconds."""
        until_s = time.monotonic() + wait_s
        while True:
            records = self._reader.poll(max(0.0, until_s - time.monotonic()))
            rows = [row for row in map(self._take, records) if self._wanted(row)]
            if rows or time.monotonic() >= until_s:
                return rows

    def _take(self, record: Incoming) -> Row:
        row = self._to_row(record)
        place = record.topic, record.partition
        highest_ms = max(self._highest_ms.get(place, 0), row.log_time_ms)
        self._highest_ms[place] = highest_ms
        return row._replace(log_time_ms=highest_ms)

    def close(self) -> None:
        """Stop following."""
        self._reader.close()
