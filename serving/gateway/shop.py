"""What every part of a gateway shares: settings, log, pictures, clock, keys, metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.clocks import WallClock
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Clock, Log
from engines.job import StopFlag
from pipelines.analyze import Pictures
from schemas.errors import LogFull, LogUnavailable
from serving.gateway.keys import FILE_NAME, KeyRing
from serving.gateway.metrics import Metrics
from serving.gateway.tickets import Tickets
from serving.kinesis_opening import is_on_kinesis, wait_for_kinesis
from serving.opening import connect_kafka, hasty, open_log, registry_format, wait_for_topics
from serving.services import open_pictures
from serving.settings import Settings

TOPICS = ("frames", "greetings", "impressions", "visits")
"""What a gateway reads and writes."""


@dataclass(frozen=True, slots=True)
class Shop:
    """What every part of a gateway shares. Close it at the end."""

    settings: Settings
    """The settings."""
    log: SharedLog
    """Takes appends from any thread. Whoever follows or scans opens a reader of their own."""
    pictures: Pictures
    """Keeps pictures until they are analysed."""
    clock: Clock
    """Returns ms since 1970 UTC, as the log has it."""
    keys: KeyRing
    """Who may come in."""
    tickets: Tickets
    """What opens a WebSocket."""
    metrics: Metrics
    """What was counted."""
    stop: StopFlag
    """Set when the gateway is to end."""

    def open_log(self) -> Log:
        """Open a reader of its own, for one thread; whoever opens it closes it.

        Raises
        ------
        LogUnavailable
            It cannot be read now.
        """
        return open_log(self.settings, must_exist=False)

    def close(self) -> None:
        """Close what is shared."""
        self.log.close()


def open_shop(settings: Settings, stop: StopFlag, say: Callable[[str], None]) -> Shop | None:
    """Open what a gateway works with; None: told to stop before a broker answered.

    Raises
    ------
    LogUnavailable, LogFull
        The log cannot be opened, or topics are missing.
    ResourceError
        A folder cannot be written.
    """
    metrics = Metrics()
    log = _open_log(settings, stop, say)
    if log is None:
        return None
    keys = KeyRing(settings.data / FILE_NAME)
    return Shop(
        settings=settings,
        log=SharedLog(log, metrics),
        pictures=open_pictures(settings),
        clock=log.clock,
        keys=keys,
        tickets=Tickets(keys),
        metrics=metrics,
        stop=stop,
    )


def _open_log(settings: Settings, stop: StopFlag, say: Callable[[str], None]) -> Log | None:
    """Open the log, waiting for its broker; None: told to stop before one answered."""
    if not settings.log.address:
        return open_log(settings, must_exist=False)
    if is_on_kinesis(settings):
        return wait_for_kinesis(settings, stop, say)
    # A visitor does not stand there for two minutes: the next look tries again sooner.
    settings = hasty(settings)
    if not wait_for_topics(settings, TOPICS, "LogAppendTime", stop, say):
        return None
    from connectors.kafka_clock import CorrectedClock, measure_skew
    from connectors.kafka_log import KafkaLog

    client = connect_kafka(settings)
    registry = registry_format(settings)
    clock = CorrectedClock(WallClock(), measure_skew(client, WallClock(), registry))
    if clock.ahead_ms:
        # Else a greeting would have expired before it came, or never.
        say(f"this clock is {clock.ahead_ms / 1_000:+.1f} s off the broker's; corrected")
    return KafkaLog(client, clock, registry)


class SharedLog:
    """A log that many threads append to, and that tells how long it took.

    In a folder one append at a time: a connection to SQLite holds one transaction. A broker's
    client takes appends from several threads by itself, and one that waits must not hold up others.

    Parameters
    ----------
    log : Log
        The log.
    metrics : Metrics
        Told of each append.
    """

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics
        self._in_turn = threading.Lock() if isinstance(log, EmbeddedLog) else None

    @property
    def name(self) -> str:
        """Where it is, for a person to read."""
        return self._log.name

    @property
    def clock(self) -> Clock:
        """The time an append would get now."""
        return self._log.clock

    def append(self, stream: str, value: Any) -> object:
        """Append one record; it is durable on return."""
        return self._timed(lambda: self._log.append(stream, value))

    def append_all(self, records: Iterable[tuple[str, Any]]) -> object:
        """Append several, in this order within each partition; all are durable on return."""
        return self._timed(lambda: self._log.append_all(records))

    def append_bytes(self, records: Sequence[tuple[str, str, bytes]]) -> object:
        """Append (stream, key, bytes) as they came; all are durable on return."""
        return self._timed(lambda: self._log.append_bytes(records))

    def close(self) -> None:
        """Let go of it."""
        self._log.close()

    def _timed(self, append: Callable[[], object]) -> object:
        started_s = time.perf_counter()
        try:
            if self._in_turn is None:
                done = append()
            else:
                with self._in_turn:
                    done = append()
        except (LogFull, LogUnavailable):
            self._metrics.append_failed()
            raise
        self._metrics.appended(time.perf_counter() - started_s)
        return done
