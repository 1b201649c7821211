"""Visits laid out in topics before a job reads them, each record with the log time it would have.

A visit has four events: its first frame, the impression a second later, a frame at 2.5 s, the end.
Everybody is shown the baseline, since what is shown must be known beforehand: the control share is
1, which costs `decide` and `learn` what any other share does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.parts import visits
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import KafkaClient, Outgoing, connect
from connectors.kafka_topics import create_topics
from pipelines.decide import decide
from pipelines.ready import make_ready
from schemas.codec import encode
from schemas.frames import EdgeAnalysis, FrameAnalyzed, FrameCaptured
from schemas.loops import LoopConfigured, with_hash
from schemas.operations import Tick
from schemas.streams import key_of

EVENTS_OF_A_VISIT = 4
VISITS_A_SECOND = 1_000
"""Of log time: so close do visits follow each other."""
SHOWN_MS, POST_MS, END_MS = 1_000, 2_500, 3_000
PARTITIONS = 4
_AT_ONCE = 20_000

At = tuple[int, str, Any]
"""Log time, stream and value of a record."""


def loop() -> LoopConfigured:
    """Return the configuration of the loop."""
    return with_hash(
        dataclasses.replace(visits.loop(), config_hash="", control_share_ppb=1_000_000_000)
    )


class Layout:
    """Topics of one prefix, and what was written there.

    Parameters
    ----------
    bootstrap : str
        The broker.
    prefix : str
        What their names begin with.
    """

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.address = KafkaAddress.parse(f"kafka://{bootstrap}/{prefix}")
        create_topics(self.address, partitions=PARTITIONS, bridged=True)
        self.client: KafkaClient = connect(self.address, client="confluent")
        self.events = 0
        self.last_ms = 0
        self.config = loop()
        self.write([(visits.START_MS, s, self.config) for s in ("outcomes", "loops")])

    def write(self, records: Iterable[At]) -> None:
        """Append records, in the order of log time."""
        batch: list[Outgoing] = []
        for at_ms, stream, value in records:
            topic, key = self.address.topic(stream), key_of(value, stream)
            batch.append(Outgoing(topic, key.encode(), encode(value), at_ms))
            self.last_ms = max(self.last_ms, at_ms)
            if len(batch) >= _AT_ONCE:
                self.client.produce(batch)
                batch.clear()
        self.client.produce(batch)

    def tick(self, streams: Iterable[str], at_ms: int) -> None:
        """Append a Tick to each partition of some streams."""
        value = encode(Tick(at_ms, "benchmark"))
        self.client.produce(
            [
                Outgoing(self.address.topic(stream), b"benchmark", value, at_ms, number)
                for stream in streams
                for number in range(PARTITIONS)
            ]
        )

    def counts(self, *streams: str) -> dict[str, int]:
        """Return how many records stand in some streams, Ticks too."""
        topics = {self.address.topic(stream): stream for stream in streams}
        found = self.client.partitions(topics)
        ends = self.client.ends([(t, n) for t, count in found.items() for n in range(count)])
        told = dict.fromkeys(streams, 0)
        for (topic, _), end in ends.items():
            told[topics[topic]] += end
        return told

    def is_read(self, source: str, streams: Iterable[str]) -> bool:
        """Whether a checkpoint lies behind all that stands in some streams."""
        done = self.client.committed(f"pho.{self.address.prefix}.{source}")
        topics = [self.address.topic(stream) for stream in streams]
        found = self.client.partitions(topics)
        ends = self.client.ends([(t, n) for t, count in found.items() for n in range(count)])
        return all(done.get(place, 0) >= end for place, end in ends.items())


def whole_visits(count: int, first: str) -> Iterator[At]:
    """Yield the events of whole visits in the order of log time.

    Parameters
    ----------
    count : int
        How many visits.
    first : str
        The stream of their pictures: ``frames``, or ``analyses`` where they are answered already.
    """
    picture = _captured if first == "frames" else visits.analysed
    baseline = loop().baseline_id
    steps = count + END_MS
    for step in range(steps):
        at_ms = visits.START_MS + step
        for after_ms in (END_MS, POST_MS, SHOWN_MS, 0):
            number = step - after_ms
            if not 0 <= number < count:
                continue
            match after_ms:
                case 0:
                    yield at_ms, first, picture(number, "pre", at_ms)
                case _ if after_ms == SHOWN_MS:
                    yield at_ms, "impressions", visits.shown(number, baseline, at_ms)
                case _ if after_ms == POST_MS:
                    yield at_ms, first, picture(number, "post", at_ms)
                case _:
                    yield at_ms, "visits", visits.ended(number, at_ms)


def decisions(count: int, spread_ms: int | None = None) -> Iterator[At]:
    """Yield decisions; `spread_ms`: all within so much log time, else as visits follow."""
    config = loop()
    serving = make_ready(config, None)
    for number in range(count):
        step = number if spread_ms is None else number * spread_ms // count
        at_ms = visits.START_MS + step
        yield (
            at_ms,
            "decisions",
            decide(visits.analysed(number, "pre", at_ms), at_ms, config, serving),
        )


def _captured(number: int, phase: Any, at_ms: int) -> FrameCaptured:
    answer: FrameAnalyzed = visits.analysed(number, phase, at_ms)
    return FrameCaptured(
        frame_id=answer.frame_id,
        decision_id=answer.decision_id,
        visit_id=answer.visit_id,
        loop_id=answer.loop_id,
        kiosk_id=f"kiosk-{number % 50}",
        phase=phase,
        sequence=answer.sequence,
        captured_at_ms=at_ms,
        width=answer.width,
        height=answer.height,
        notice="page",
        edge_analysis=EdgeAnalysis(answer.faces, answer.analyser, answer.analyser_version),
    )
