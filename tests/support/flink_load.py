"""Visitors by the wall clock: a process that plays cameras and kiosks on Kafka, at a set rate.

python tests/support/flink_load.py --log kafka://host:9092/shop --rate 200 --name c0 \
    --journal journal.txt

Each visit: a frame; its greeting is waited for and shown; one or two frames more; the end. What
happened is written into the journal, a line each, so that it outlives a `kill -9`:

    frame FRAME_ID CAPTURED_MS DURABLE_MS    the broker has it
    greeting DECISION_ID SEEN_MS WAITED_MS   seen so long after its frame was captured
    ungreeted DECISION_ID                    the visitor left before, or it came too late to show
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from confluent_kafka import Producer

from connectors.entries import entry
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import Incoming, KafkaReader, connect
from connectors.pictures import FolderPictures
from schemas.codec import decode
from schemas.decisions import GreetingIssued
from worlds import captured, ended, shown

KIOSKS = 24
FIRST_POST_S = 0.7
"""From the greeting shown to the next frame; what is taken in the first 0.5 s does not count."""
NEXT_S = 0.3
PATIENCE_S = 8.0
"""A visitor who is not greeted by then leaves."""
_LONGEST_WAIT_S = 0.02
_FLUSH_EVERY_S = 0.05
_BURST = 20


@dataclass
class Visit:
    """One visitor before one kiosk."""

    name: str
    """Id of the visit and of its decision."""
    chance: random.Random
    """Where this visitor's habits come from."""
    with_pictures: bool
    """False: the kiosk analyses by itself."""
    came_ms: int = 0
    """When the first frame was captured, ms."""
    posts: int = 0
    """Frames taken after the greeting."""
    greeted: bool = False
    """Whether the greeting was shown."""
    pleased: float = 0.0
    """What the greeting did to the visitor."""

    @property
    def kiosk_id(self) -> str:
        """Where."""
        return f"kiosk-{int(self.name.rpartition('-')[2]) % KIOSKS}"


class Camera:
    """All cameras and kiosks of a chain of shops.

    Parameters
    ----------
    address : KafkaAddress
        The log.
    name : str
        What the ids of its visits begin with: no two runs share one.
    rate : float
        Visits a second.
    journal : TextIO
        Where it notes what happened.
    pictures : FolderPictures or None
        Where pictures are put; None: all kiosks analyse by themselves.
    share : float
        Share of visits with pictures, 0..1.
    """

    def __init__(
        self,
        address: KafkaAddress,
        name: str,
        rate: float,
        journal: TextIO,
        pictures: FolderPictures | None,
        share: float,
    ) -> None:
        self.address = address
        self.name = name
        self.period_s = 1.0 / rate
        self.journal = journal
        self.pictures = pictures
        self.share = share if pictures is not None else 0.0
        self.stopping = False
        self.visits: dict[str, Visit] = {}
        self._count = 0
        self._due: list[tuple[float, int, Callable[[Visit], None], Visit]] = []
        self._steps = 0
        self._next_flush_s = 0.0
        self._producer = Producer(
            {
                "bootstrap.servers": address.bootstrap,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 1,
                "reconnect.backoff.max.ms": 1_000,
                # Longer than any broker is away here: a visit must not fail in the middle.
                "delivery.timeout.ms": 120_000,
                "queue.buffering.max.messages": 1_000_000,
                # What it says while the broker is away is what the test wants.
                "log_level": 0,
            }
        )

    def run(self) -> None:
        """Play until told to stop, then let those who are there leave."""
        reader = self._greetings()
        next_visit_s = time.monotonic()
        while not (self.stopping and not self.visits):
            now_s = time.monotonic()
            if not self.stopping:
                # After a pause of this process the visits it missed do not all come at once.
                next_visit_s = max(next_visit_s, now_s - _BURST * self.period_s)
                while next_visit_s <= now_s:
                    self._come()
                    next_visit_s += self.period_s
            while self._due and self._due[0][0] <= now_s:
                _, _, step, visit = heapq.heappop(self._due)
                step(visit)
            self._producer.poll(0)
            if now_s >= self._next_flush_s:
                self.journal.flush()
                self._next_flush_s = now_s + _FLUSH_EVERY_S
            until_s = min(next_visit_s, self._due[0][0] if self._due else now_s + 1.0)
            wait_s = min(max(until_s - time.monotonic(), 0.0), _LONGEST_WAIT_S)
            for record in reader.poll(wait_s):
                self._greeting(record)
        assert self._producer.flush(60.0) == 0
        self.journal.flush()

    def stop(self, *_: object) -> None:
        """Let no more visitors come."""
        self.stopping = True

    def _greetings(self) -> KafkaReader:
        client = connect(self.address, client="confluent")
        topic = self.address.topic("greetings")
        places = [(topic, number) for number in range(client.partitions([topic])[topic])]
        return client.reader(client.ends(places))

    def _come(self) -> None:
        chance = random.Random(f"{self.name}-{self._count}")  # noqa: S311 - visitors, not secrets
        visit = Visit(f"{self.name}-{self._count}", chance, chance.random() < self.share)
        self._count += 1
        self.visits[visit.name] = visit
        visit.came_ms = _now_ms()
        self._frame(visit, "pre", 0, visit.chance.uniform(0.0, 0.4))
        self._later(PATIENCE_S, self._lose_patience, visit)

    def _greeting(self, record: Incoming) -> None:
        greeting: GreetingIssued = decode(record.value or b"")
        visit = self.visits.get(greeting.decision_id)
        if visit is None or visit.greeted:
            return  # of a camera that is no more, or shown already
        now_ms = _now_ms()
        if now_ms > greeting.expires_at_ms:
            return self._leave_ungreeted(visit)
        visit.greeted = True
        self._note("greeting", visit.name, now_ms, now_ms - visit.came_ms)
        impression = shown(visit.name, greeting.action_id, now_ms, kiosk_id=visit.kiosk_id)
        self._append("impressions", impression)
        visit.pleased = int(greeting.action_id[1:]) * 0.2
        self._later(FIRST_POST_S, self._react, visit)
        return None

    def _react(self, visit: Visit) -> None:
        visit.posts += 1
        happy = min(1.0, visit.pleased + visit.chance.uniform(0.0, 0.4))
        self._frame(visit, "post", visit.posts, happy)
        again = visit.posts == 1 and visit.chance.random() < 0.5
        self._later(NEXT_S, self._react if again else self._leave, visit)

    def _lose_patience(self, visit: Visit) -> None:
        if not visit.greeted and visit.name in self.visits:
            self._leave_ungreeted(visit)

    def _leave_ungreeted(self, visit: Visit) -> None:
        self._note("ungreeted", visit.name)
        self._leave(visit)

    def _leave(self, visit: Visit) -> None:
        del self.visits[visit.name]
        end = ended(visit.name, _now_ms(), visit.posts)
        self._append("visits", dataclasses.replace(end, kiosk_id=visit.kiosk_id))

    def _frame(self, visit: Visit, phase: str, sequence: int, happy: float) -> None:
        now_ms = _now_ms()
        changes: dict[str, Any] = {"kiosk_id": visit.kiosk_id}
        if visit.with_pictures and self.pictures is not None:
            picture_id = self.pictures.put(f"{happy:.6f}".encode())
            changes |= {"picture_id": picture_id, "edge_analysis": None}
        frame = captured(visit.name, phase, sequence, now_ms, happy, **changes)
        self._append(
            "frames",
            frame,
            lambda: self._note("frame", frame.frame_id, now_ms, _now_ms()),
        )

    def _append(self, stream: str, value: Any, then: Callable[[], None] | None = None) -> None:
        _, key, data = entry(stream, value)

        def delivered(error: Any, _message: Any) -> None:
            assert error is None, f"{stream} {key}: {error}"
            if then is not None:
                then()

        self._producer.produce(
            self.address.topic(stream), data, key.encode(), on_delivery=delivered
        )

    def _later(self, after_s: float, step: Callable[[Visit], None], visit: Visit) -> None:
        self._steps += 1
        heapq.heappush(self._due, (time.monotonic() + after_s, self._steps, step, visit))

    def _note(self, *what: object) -> None:
        self.journal.write(" ".join(map(str, what)) + "\n")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--share", type=float, default=0.0)
    told = parser.parse_args()
    pictures = FolderPictures(told.pictures) if told.pictures else None
    address = KafkaAddress.parse(told.log)
    with told.journal.open("a", encoding="utf-8") as journal:
        camera = Camera(address, told.name, told.rate, journal, pictures, told.share)
        signal.signal(signal.SIGTERM, camera.stop)
        camera.run()


if __name__ == "__main__":
    main()
