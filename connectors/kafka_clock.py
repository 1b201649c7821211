"""How far this machine's clock is from the brokers', which give the log its times."""

from __future__ import annotations

from typing import NamedTuple

from connectors.kafka_clients import KafkaClient, Outgoing
from connectors.logs import Clock
from connectors.reading_back import read_between
from connectors.registry import RegistryFormat
from schemas.codec import encode
from schemas.operations import Tick

_STREAM = "frames"
_TRIES = 3
NEGLIGIBLE_MS = 100
"""A smaller difference is not corrected: it is less than a shot of a camera is old."""


class Skew(NamedTuple):
    """What was measured."""

    ahead_ms: int
    """This machine's clock minus the broker's, ms."""
    within_ms: int
    """The truth is so near, ms: half of the time that the append took."""


def measure_skew(client: KafkaClient, clock: Clock, registry: RegistryFormat | None = None) -> Skew:
    """Append a Tick, three times, and compare the log time it got with this machine's clock.

    A Tick is what a ticker would append too, and changes nothing. The topic must have the
    broker's time (LogAppendTime).

    Raises
    ------
    LogUnavailable
        When it cannot be appended or read.
    """
    topic = client.address.topic(_STREAM)
    client.produce([])  # connects: the first append would take as long as that
    measured = []
    for _ in range(_TRIES):
        before_ms = clock()
        value = encode(Tick(before_ms, "clock"))
        wire = value if registry is None else registry.to_wire(topic, value)
        ((number, offset),) = client.produce([Outgoing(topic, b"clock", wire, partition=0)])
        after_ms = clock()
        place = (topic, number)
        (record, *_) = read_between(client, {place: offset}, {place: offset + 1})
        half_ms = (after_ms - before_ms) // 2
        measured.append(Skew(before_ms + half_ms - record.timestamp_ms, half_ms + 1))
    return min(measured, key=lambda skew: skew.within_ms)


class CorrectedClock:
    """The clock of this machine, moved to the brokers' time.

    Parameters
    ----------
    clock : callable
        This machine's, ms since 1970 UTC.
    skew : Skew
        What was measured; less than `NEGLIGIBLE_MS` is left alone.
    """

    def __init__(self, clock: Clock, skew: Skew) -> None:
        self._clock = clock
        is_negligible = abs(skew.ahead_ms) <= NEGLIGIBLE_MS + skew.within_ms
        self.ahead_ms = 0 if is_negligible else skew.ahead_ms

    def __call__(self) -> int:
        """Return ms since 1970 UTC."""
        return self._clock() - self.ahead_ms
