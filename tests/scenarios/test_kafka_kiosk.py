"""A kiosk on Kafka: nothing but a consumer of its own greetings, and patient with its broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brokers import fresh_topics, new_broker, shared_broker
from connectors.clocks import SetClock, WallClock
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import connect
from connectors.kafka_clock import CorrectedClock, measure_skew
from connectors.kafka_log import KafkaLog
from connectors.kafka_topics import create_topics
from connectors.pictures import PICTURES, FolderPictures
from producers.cameras import Shot
from producers.recorded import RecordedVisitors
from schemas.codec import decode
from schemas.decisions import GreetingIssued
from serving.camera import TerminalKiosk
from serving.settings import load
from waiting import wait_until

QUIET = {"PYTHONWARNINGS": ""}
"""kafka-python reads its own files in a way that is deprecated."""


class Place:
    """A kiosk with the client that kiosks have, and a visitor who comes."""

    def __init__(self, folder: Path, address: KafkaAddress, timeout_ms: int = 20_000) -> None:
        settings = load(None, {"data": str(folder), "kiosk.notice": "posted"}, {})
        self.folder = folder
        self.said: list[str] = []
        self.clock = SetClock()
        self.log = KafkaLog(connect(address, delivery_timeout_ms=timeout_ms), self.clock)
        self.kiosk = TerminalKiosk(settings, self.log, threading.Event(), self.said.append)
        self.shots = RecordedVisitors(1, 1).visitor(0).shots()

    def look(self, shot: Shot) -> None:
        """Let the kiosk see a shot at its time."""
        self.clock.set(shot.at_ms)
        self.kiosk._see(shot)

    def greeting(self, kiosk_id: str = "kiosk-1", visit_id: str | None = None) -> GreetingIssued:
        """Return a greeting as the job would issue it, for who stands there."""
        visit = visit_id or self.kiosk.kiosk.visit_id
        assert visit is not None
        now_ms = self.clock()
        return GreetingIssued(
            decision_id=visit,
            visit_id=visit,
            loop_id="greeting",
            kiosk_id=kiosk_id,
            action_id="welcome",
            text=f"Hello from {kiosk_id}",
            language="en",
            voice="",
            mood="warm",
            decided_at_ms=now_ms,
            expires_at_ms=now_ms + 60_000,
        )

    def close(self) -> None:
        """Go away."""
        self.kiosk.close()
        self.log.close()


@pytest.fixture
def address() -> Iterator[KafkaAddress]:
    with fresh_topics(shared_broker().bootstrap) as address:
        yield address


@pytest.mark.slow
def test_a_kiosk_shows_its_own_greeting_once_and_says_so_to_the_log(
    address: KafkaAddress, tmp_path: Path
) -> None:
    place = Place(tmp_path, address)
    while place.kiosk.kiosk.visit_id is None:
        place.look(next(place.shots))
    job = KafkaLog(connect(address, client="confluent"))
    (frame,) = (decode(row.value) for row in job.scan("frames"))
    assert FolderPictures(tmp_path / PICTURES).ids() == [frame.picture_id]
    job.append("greetings", place.greeting("kiosk-2"))
    job.append_bytes([("greetings", "kiosk-1", b"none of ours")])
    job.append("greetings", place.greeting("kiosk-1", "somebody-else"))
    job.append_all([("greetings", place.greeting()), ("greetings", place.greeting())])

    def shown() -> bool:
        place.kiosk.greet()
        return bool(place.said) and not place.kiosk._waiting

    wait_until(shown, 20.0)
    for _ in range(5):
        place.kiosk.greet()
        time.sleep(0.05)
    assert [line for line in place.said if "Hello" in line] == place.said
    assert len(place.said) == 1
    (impression,) = (decode(row.value) for row in job.scan("impressions"))
    assert impression.decision_id == frame.decision_id
    place.close()
    job.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_broker_that_is_away_holds_the_visit_and_loses_nothing(tmp_path: Path) -> None:
    with new_broker(tmp_path / "broker") as broker:
        address = KafkaAddress.parse(f"kafka://{broker.bootstrap}/away")
        create_topics(address, partitions=2)
        place = Place(tmp_path / "shop", address, timeout_ms=3_000)
        broker.kill()
        while not place.said:
            place.look(next(place.shots))
        assert str(address) in place.said[0]
        assert place.kiosk.kiosk.visit_id is None
        # The picture of a frame that is in no log is not kept.
        assert FolderPictures(tmp_path / "shop" / PICTURES).ids() == []
        broker.start()

        def seen() -> bool:
            place.look(next(place.shots))
            return place.kiosk.kiosk.visit_id is not None

        wait_until(seen, 120.0)
        log = KafkaLog(connect(address, client="confluent"))
        visits = [decode(row.value).visit_id for row in log.scan("frames")]
        assert place.kiosk.kiosk.visit_id in visits
        greeting = place.greeting()
        log.append("greetings", greeting)

        def shown() -> bool:
            place.kiosk.greet()
            return any("Hello" in line for line in place.said)

        # Its tail too has found the broker again.
        wait_until(shown, 120.0)
        assert log.counts()["impressions"] == 1
        place.close()
        log.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_camera_waits_for_its_broker_at_the_start(pho: Any, tmp_path: Path) -> None:
    broker = new_broker(tmp_path / "broker")
    address = KafkaAddress.parse(f"kafka://{broker.bootstrap}/late")
    with broker:
        create_topics(address, partitions=2)
    line = ("camera", "recorded", "--notice", "posted", "--log", address, "--data", tmp_path / "d")
    process = pho.start(*line, settings=QUIET)
    wait_until(lambda: "waiting for it" in pho.output(process)[0], 120.0)
    with broker:
        client = connect(address, client="confluent")
        log = KafkaLog(client)
        wait_until(lambda: any(log.scan("frames")), 90.0)
        process.terminate()
        assert process.wait(60) == 0, pho.output(process)
        # It says goodbye: whoever stood there is not waited for.
        assert any(log.scan("visits"))
        client.close()
    assert "Traceback" not in "".join(pho.output(process))


def test_a_kiosk_ten_minutes_fast_stamps_the_brokers_time(address: KafkaAddress) -> None:
    client = connect(address)
    wall = WallClock()
    for ahead_ms in (600_000, -600_000, 0):

        def clock(ahead_ms: int = ahead_ms) -> int:
            return wall() + ahead_ms

        skew = measure_skew(client, clock)
        assert abs(skew.ahead_ms - ahead_ms) <= skew.within_ms + 50
        corrected = CorrectedClock(clock, skew)
        assert abs(corrected() - wall()) <= skew.within_ms + 150
        assert (corrected.ahead_ms == 0) == (ahead_ms == 0)
    client.close()
