"""The log on Kinesis, as commands and producers see it: a stream there for each stream of ours.

Log time is when Kinesis took a record (ApproximateArrivalTimestamp), never going back within a
shard; of a record that a bridge brought it is the log time it had. There are no Ticks, no counts
and no places for bookmarks: what needs them works on the folder of `pho run`.
"""

from __future__ import annotations

import heapq
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from connectors.entries import check_stream, entry
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_aggregation import Part
from connectors.kinesis_shards import LATEST, SHARD_END
from connectors.kinesis_sink import DELIVERY_TIMEOUT_MS, KinesisSink, Place
from connectors.kinesis_source import READS_PER_SECOND, KinesisSource, Received
from connectors.kinesis_streams import KINESIS_STREAMS
from connectors.logs import Clock, Row
from schemas.codec import decode
from schemas.errors import LogUnavailable, RecordError, UsageError
from schemas.outcomes import OutcomeClosed
from schemas.streams import STREAMS

POSITION_STEP = 1_000_000
"""A row's position is its sequence number times this, plus its place in a packed record."""
LOG_TIME_TAG = "pho-log-time-ms"
PLACE_TAG = "pho-position"
TICKS = "ticks"

_POLL_S = 0.5
_RETRY_S = 0.5
# The newest records lie within minutes as a rule; the whole retention is read where they do not.
_LOOK_BACK_MS = (600_000, 7_200_000)


class KinesisLog:
    """The log on Kinesis. Appends may come from several threads.

    Parameters
    ----------
    client : boto3 client
        Of Kinesis.
    address : KinesisAddress
        Where it is.
    clock : callable, optional
        Returns ms since 1970 UTC: this machine's estimate of Kinesis' clock.
    delivery_timeout_ms : int
        How long an append holds its caller while Kinesis does not take it.
    reads_per_second : float
        How often a shard is asked.
    writable : sequence of str
        The streams that may be written here. What others write the job would never see: it reads
        what producers send, and everything else in its own file.
    """

    def __init__(
        self,
        client: Any,
        address: KinesisAddress,
        clock: Clock,
        delivery_timeout_ms: int = DELIVERY_TIMEOUT_MS,
        reads_per_second: float = READS_PER_SECOND,
        writable: Sequence[str] = KINESIS_STREAMS,
    ) -> None:
        self.address = address
        self.name = str(address)
        self.clock = clock
        self.reads_per_second = reads_per_second
        self._writable = frozenset(writable)
        self._client = client
        self._sink = KinesisSink(client, address, delivery_timeout_ms)

    # Writing

    def append(self, stream: str, value: Any) -> list[Place]:
        """Append one record durably.

        Raises
        ------
        LogUnavailable
            Kinesis did not take it. It may have been written all the same: append it again,
            readers take the first of an id.
        UsageError
            It cannot be written: a Tick, or too large.
        """
        return self.append_all([(stream, value)])

    def append_all(self, records: Iterable[tuple[str, Any]]) -> list[Place]:
        """Append several, those of a stream and key in this order."""
        return self.append_bytes([entry(stream, value) for stream, value in records])

    def append_bytes(self, records: Sequence[tuple[str, str, bytes]]) -> list[Place]:
        """Append (stream, key, bytes) as they came; return their places, stream by stream."""
        streams: defaultdict[str, list[Part]] = defaultdict(list)
        for stream, key, value in records:
            self._check_writable(stream)
            streams[stream].append(Part(key, value))
        return [place for s, parts in streams.items() for place in self._sink.put(s, parts)]

    # Reading

    def scan(self, *streams: str, key: str | None = None) -> Iterator[Row]:
        """Yield all there is now in some streams (in all, where none is named).

        In the order of log time, then of the streams as named, of shard and position.
        """
        return self._scan(_readable(streams), None, key)

    def tail(self, *streams: str, key: str | None = None) -> KinesisTail:
        """Follow some streams from their present end, in a thread of its own."""
        names = _readable(streams)
        source = self._source(names, start=LATEST)
        return KinesisTail(source, names, key)

    def last(self, stream: str, count: int) -> list[Row]:
        """Return the newest records of a stream, oldest first."""
        if stream == TICKS:
            return []
        for back_ms in (*_LOOK_BACK_MS, None):
            since_ms = None if back_ms is None else self.clock() - back_ms
            rows: deque[Row] = deque(self._scan(_readable((stream,)), since_ms, None), count)
            if len(rows) == count:
                break
        return list(rows)

    def counts(self) -> dict[str, int]:
        """Return the number of records of each stream: Kinesis keeps none, so all are read."""
        found = dict.fromkeys(STREAMS, 0)
        for row in self.scan():
            found[row.stream] += 1
        return found

    def complete_through_ms(self) -> int:
        """Return when the newest outcome was closed, ms; 0: there is none.

        The job closes in the order of time, and writes in that order: whatever was due before
        that time has its outcome in the log.
        """
        closed_ms = 0
        for row in self.last("outcomes", 100):
            try:
                value = decode(row.value)
            except RecordError:
                continue
            if isinstance(value, OutcomeClosed):
                closed_ms = max(closed_ms, value.closed_at_ms)
        return closed_ms

    def bookmark(self, name: str) -> dict[tuple[str, int], int]:
        """Return nothing: Kinesis keeps no bookmarks."""
        return {}

    def set_bookmark(self, name: str, places: dict[tuple[str, int], int]) -> None:
        """Refuse: Kinesis has no place for it.

        Raises
        ------
        UsageError
            Says where it can be done.
        """
        problem = f"{self.name} keeps no bookmark {name!r}: Kinesis has no place for one"
        raise UsageError(problem, "Do it on the folder of `pho run`: --data DIR, without --log")

    def close(self) -> None:
        """Let go of it; the client stays open."""

    def _check_writable(self, stream: str) -> None:
        check_stream(stream)
        if stream == TICKS:
            problem = "a log on Kinesis holds no Ticks: time passes there by itself"
            raise UsageError(problem, "Leave them out")
        if stream not in self._writable:
            problem = f"only the job writes {stream} of {self.name}"
            raise UsageError(problem, "Do it on the folder of `pho run`: --data DIR, without --log")

    def _source(
        self, names: Sequence[str], start: str = "", since_ms: int | None = None
    ) -> KinesisSource:
        places: dict[str, dict[str, str]] = {name: {} for name in names}
        return KinesisSource(
            self._client, self.address, places, self.reads_per_second, start, since_ms
        )

    def _scan(self, names: tuple[str, ...], since_ms: int | None, key: str | None) -> Iterator[Row]:
        if not names:
            return
        source = self._source(names, since_ms=since_ms)
        try:
            for row in _merged(source, names):
                if key is None or row.key == key:
                    yield row
        finally:
            source.close()


class KinesisTail:
    """What comes from now on in some streams; a thread asks Kinesis at the pace it allows.

    Parameters
    ----------
    source : KinesisSource
        Begins at the present end.
    streams : tuple of str
        The streams.
    key : str or None
        Only this key.
    """

    def __init__(self, source: KinesisSource, streams: tuple[str, ...], key: str | None) -> None:
        self._source = source
        self._key = key
        self._order = {stream: number for number, stream in enumerate(streams)}
        self._rows: queue.SimpleQueue[Row] = queue.SimpleQueue()
        self._error: LogUnavailable | None = None
        self._stop = threading.Event()
        self._floors: dict[tuple[str, int], int] = {}
        self._thread = threading.Thread(target=self._follow, daemon=True, name="pho-kinesis-tail")
        self._thread.start()

    def poll(self, wait_s: float) -> list[Row]:
        """Return what has come, waiting at most so long for the first of it, seconds.

        Raises
        ------
        LogUnavailable
            Kinesis cannot be read; it is tried again meanwhile, nothing is left out.
        """
        rows: list[Row] = []
        try:
            rows.append(self._rows.get(timeout=wait_s) if wait_s > 0 else self._rows.get_nowait())
            while True:
                rows.append(self._rows.get_nowait())
        except queue.Empty:
            pass
        error, self._error = self._error, None
        if error is not None and not rows:
            raise error
        return rows

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join()
        self._source.close()

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                batches = self._source.poll(_POLL_S)
            except LogUnavailable as error:
                self._error = error
                self._stop.wait(_RETRY_S)
                continue
            records = [record for batch in batches for record in batch.records]
            records.sort(key=lambda r: (r.arrival_ms, self._order[r.stream]))
            for record in records:
                row = to_row(record, self._floors)
                if self._key is None or row.key == self._key:
                    self._rows.put(row)


def to_row(record: Received, floors_ms: dict[tuple[str, int], int]) -> Row:
    """Return our row of a record; its log time is the highest of its shard so far, or later.

    Parameters
    ----------
    record : Received
        As it was read.
    floors_ms : dict
        The highest log time of each (stream, shard) so far; kept up to date here.
    """
    log_time_ms = record.arrival_ms
    for name, value in record.tags:
        if name == LOG_TIME_TAG and value.isdecimal():
            log_time_ms = int(value)
    place = record.stream, record.shard
    log_time_ms = max(log_time_ms, floors_ms.get(place, 0))
    floors_ms[place] = log_time_ms
    position = record.sequence * POSITION_STEP + record.nth
    return Row(position, record.stream, record.key, log_time_ms, record.data, record.shard)


def _merged(source: KinesisSource, streams: tuple[str, ...]) -> Iterator[Row]:
    """Yield all that is there now, in the order of log time, then of the streams as named."""
    order = {stream: number for number, stream in enumerate(streams)}
    floors_ms: dict[tuple[str, int], int] = {}
    waiting: dict[tuple[str, str], deque[Row]] = {}
    heads: list[tuple[int, int, int, int, tuple[str, str]]] = []
    at_end: set[tuple[str, str]] = set()
    while True:
        lacking = {k for k in source.reading if k not in at_end and not waiting.get(k)}
        if lacking:
            for batch in source.poll(_POLL_S, lacking):
                place = batch.stream, batch.shard_id
                rows = waiting.setdefault(place, deque())
                was_empty = not rows
                rows.extend(to_row(record, floors_ms) for record in batch.records)
                if rows and was_empty:
                    heapq.heappush(heads, _head(rows[0], order, place))
                if not batch.behind_ms or batch.place == SHARD_END:
                    at_end.add(place)
            continue
        if not heads:
            return
        place = heapq.heappop(heads)[-1]
        yield waiting[place].popleft()
        if waiting[place]:
            heapq.heappush(heads, _head(waiting[place][0], order, place))


def _head(
    row: Row, order: dict[str, int], place: tuple[str, str]
) -> tuple[int, int, int, int, tuple[str, str]]:
    return row.log_time_ms, order[row.stream], row.partition, row.position, place


def _readable(streams: tuple[str, ...]) -> tuple[str, ...]:
    for stream in streams:
        check_stream(stream)
    chosen = streams or KINESIS_STREAMS
    return tuple(dict.fromkeys(name for name in chosen if name != TICKS))
