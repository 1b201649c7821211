"""The ticker of a log on Kafka: wall time enters the event streams as Ticks, and in no other way.

Each partition gets a Tick when nothing was appended to it for a while, until every window that
can be open has closed. Two tickers do no harm: each sees the other's Ticks as movement, and only
records that are none keep them going.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from connectors.clocks import WallClock
from connectors.kafka_clients import Incoming, KafkaClient, Outgoing, Place
from connectors.kafka_log import TICKED_STREAMS
from connectors.logs import Clock, Log
from connectors.reading_back import is_tick, read_between
from connectors.registry import RegistryFormat
from engines.job import StopFlag
from pipelines.topology import TICK_INTERVAL_MS, tick_tail_ms
from schemas.codec import decode, encode
from schemas.errors import LogUnavailable, RecordError
from schemas.loops import LoopConfigured
from schemas.operations import Tick

TICKER = "ticker"
_LOOK_EVERY_S = TICK_INTERVAL_MS / 2_000
_RETRY_S = 1.0
_CHORE_EVERY_S = 10.0
# So many of a partition's newest records tell nearly always whether anything but Ticks came: they
# are 16 s of Ticks.
_READ_BACK = 64
_FIND_EVERY_S = 60.0

Say = Callable[[str], None]


def longest_tail_ms(log: Log, loops: Iterable[LoopConfigured]) -> int:
    """Return how long Ticks go on for the slowest loop, ms.

    Parameters
    ----------
    log : Log
        Every loop it ever knew counts: windows of its older configuration may still be open.
    loops : iterable of LoopConfigured
        Count too, so that there is an answer before the first is in the log.
    """
    known = list(loops)
    for row in log.scan("loops"):
        try:
            config = decode(row.value)
        except RecordError:
            continue
        if isinstance(config, LoopConfigured):
            known.append(config)
    return max(tick_tail_ms(loop.rules) for loop in known)


@dataclass(slots=True)
class _Partition:
    """What the ticker knows of one partition."""

    end: int
    """The offset behind its newest record."""
    moved_s: float | None = None
    """When the end was seen to move; None: not since the start."""
    newest_ms: int = 0
    """Log time of its newest record; 0: it has none."""
    looked: int = 0
    """The offset up to which it is known what its records are."""


class Ticker:
    """Appends Ticks to the partitions of the event streams.

    Elapsed time is measured here, by a monotonic clock; how old the newest record is, by the
    broker's log times. So it does not matter how far the two clocks are apart.

    Parameters
    ----------
    client : KafkaClient
        Asks for the ends, and appends.
    tail_ms : callable
        Returns how long Ticks go on after the newest record that is none, ms; asked when they
        might end.
    registry : RegistryFormat or None
        Ticks are written in its format; None: in single-object encoding.
    clock : callable
        Stamps the Ticks, ms since 1970 UTC.
    streams : sequence of str
        Only the topics of these event streams; others have the Ticks of a bridge.
    """

    def __init__(
        self,
        client: KafkaClient,
        tail_ms: Callable[[], int],
        registry: RegistryFormat | None = None,
        clock: Clock | None = None,
        streams: Sequence[str] = TICKED_STREAMS,
    ) -> None:
        self.ticks = 0
        self._streams = tuple(stream for stream in TICKED_STREAMS if stream in streams)
        self._client = client
        self._tail_ms = tail_ms
        self._tail = 0
        self._registry = registry
        self._clock = clock or WallClock()
        self._partitions: dict[Place, _Partition] = {}
        self._next_find_s = 0.0
        self._other_ms = 0
        # A moment by both clocks: log time in ms, and the monotonic one in s.
        self._anchor: tuple[int, float] | None = None
        self._stirred = True

    def run(self, stop: StopFlag, say: Say, chore: Callable[[], None] = lambda: None) -> None:
        """Tick until `stop` is set; while the broker is away, wait and say so.

        Parameters
        ----------
        stop : StopFlag
            Ends it.
        say : callable
            Told once that the broker is away, and once that it is back.
        chore : callable
            Called every ten seconds.
        """
        away = False
        next_chore_s = 0.0
        while not stop.is_set():
            now_s = time.monotonic()
            if now_s >= next_chore_s:
                next_chore_s = now_s + _CHORE_EVERY_S
                chore()
            try:
                self.step(now_s)
            except LogUnavailable as error:
                if not away:
                    say(f"{error.problem}; waiting for it")
                away = True
                stop.wait(_RETRY_S)
                continue
            if away:
                say("the broker is back")
            away = False
            stop.wait(_LOOK_EVERY_S)

    def step(self, now_s: float) -> int:
        """Look at the ends, and append the Ticks that are due; return how many.

        Parameters
        ----------
        now_s : float
            The monotonic clock, seconds.

        Raises
        ------
        LogUnavailable
            Topics are missing, or the broker is away; some Ticks may have been appended.
        """
        if now_s >= self._next_find_s:
            self._find_partitions()
            self._next_find_s = now_s + _FIND_EVERY_S
        self._note_ends(now_s)
        if self._stirred and self._would_rest(now_s):
            self._look_back()
        interval_s = TICK_INTERVAL_MS / 1_000
        due = [
            place
            for place, known in self._partitions.items()
            if (known.moved_s is None or now_s - known.moved_s >= interval_s)
            and self._is_open(known.newest_ms)
        ]
        if due:
            self._tick(due)
        return len(due)

    def _find_partitions(self) -> None:
        topics = [self._client.address.topic(stream) for stream in self._streams]
        counts = self._client.partitions(topics)
        missing = [topic for topic in topics if topic not in counts]
        if missing:
            problem = f"{self._client.address} has no topic {', '.join(missing)}"
            cure = f"Make them: pho topics create --log {self._client.address}"
            raise LogUnavailable(problem, cure)
        places = [(topic, number) for topic in topics for number in range(counts[topic])]
        # The first record is waited for by all partitions: connect the producer before it comes.
        self._client.produce([])
        # A partition added by hand would hold back everything if it had no Ticks.
        new = [place for place in places if place not in self._partitions]
        if new:
            ends = self._client.ends(new)
            self._partitions |= {place: _Partition(ends[place]) for place in new}

    def _note_ends(self, now_s: float) -> None:
        for place, end in self._client.ends(self._partitions).items():
            known = self._partitions[place]
            # Less than what we appended: a replica is behind, for a moment; or it is a new topic
            # of that name, for good.
            behind = end < known.end and known.moved_s is not None and now_s - known.moved_s < 5.0
            if end != known.end and not behind:
                known.end, known.moved_s = end, now_s
                known.newest_ms = self._log_now_ms(now_s) or known.newest_ms
                self._stirred = True

    def _log_now_ms(self, now_s: float) -> int:
        """Return the broker's time, ms, as far as it is known; 0: not yet."""
        if self._anchor is None:
            return 0
        log_ms, at_s = self._anchor
        return log_ms + int((now_s - at_s) * 1_000)

    def _is_open(self, newest_ms: int) -> bool:
        """Whether some window may still be open after this log time."""
        return self._other_ms > 0 and newest_ms - self._other_ms <= self._tail

    def _would_rest(self, now_s: float) -> bool:
        newest_ms = max(known.newest_ms for known in self._partitions.values())
        return not self._is_open(max(newest_ms, self._log_now_ms(now_s)))

    def _tick(self, places: list[Place]) -> None:
        tick = encode(Tick(self._clock(), TICKER))
        key = TICKER.encode()
        wire = self._registry.to_wire if self._registry is not None else lambda _topic, value: value
        written = self._client.produce(
            [Outgoing(topic, key, wire(topic, tick), partition=n) for topic, n in places]
        )
        now_s = time.monotonic()
        self.ticks += len(places)
        for place, (_, offset) in zip(places, written, strict=True):
            known = self._partitions[place]
            # A gap: somebody else appended there between our look and our Tick.
            self._stirred = self._stirred or offset != known.end
            known.end, known.moved_s = offset + 1, now_s
            known.newest_ms = self._log_now_ms(now_s) or known.newest_ms
        if self._anchor is None:
            self._look_back()

    def _look_back(self) -> None:
        """Find the newest record that is no Tick, one tail back at most."""
        self._tail = self._tail_ms()
        self._stirred = False
        starts = self._client.starts(self._partitions)
        ends = {place: known.end for place, known in self._partitions.items()}
        # What stands below was looked at before, and is remembered.
        floors = {p: max(starts[p], known.looked) for p, known in self._partitions.items()}
        depth = _READ_BACK
        unsure = list(self._partitions)
        while unsure:
            begin = {place: max(floors[place], ends[place] - depth) for place in unsure}
            oldest_ms = self._take(read_between(self._client, begin, ends))
            newest_ms = max(known.newest_ms for known in self._partitions.values())
            enough_ms = max(self._other_ms, newest_ms - self._tail)
            unsure = [
                place
                for place in unsure
                if begin[place] > floors[place] and oldest_ms.get(place, 0) > enough_ms
            ]
            depth *= 8
        for place, known in self._partitions.items():
            known.looked = ends[place]
        self._drop_anchor()

    def _take(self, records: list[Incoming]) -> dict[Place, int]:
        """Note what some records say; return the first log time of each partition, ms."""
        oldest_ms: dict[Place, int] = {}
        for record in records:
            place = (record.topic, record.partition)
            oldest_ms.setdefault(place, record.timestamp_ms)
            self._partitions[place].newest_ms = record.timestamp_ms
            if not is_tick(record, self._registry):
                self._other_ms = max(self._other_ms, record.timestamp_ms)
        return oldest_ms

    def _drop_anchor(self) -> None:
        """Take the newest record whose coming was seen as a moment of both clocks."""
        seen = [
            (known.newest_ms, known.moved_s)
            for known in self._partitions.values()
            if known.moved_s is not None and known.newest_ms
        ]
        if seen:
            self._anchor = max(seen)
