"""`pho camera`: a kiosk in a terminal, beside a job that may be slow, locked or not there."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors import embedded_log
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.local_analyser import LocalAnalyser
from connectors.pictures import FolderPictures
from engines.analysis import FrameAnswerer
from engines.embedded import EmbeddedEngine
from engines.job import configure
from pipelines.topology import greeting_loop
from producers.cameras import Shot
from producers.recorded import RecordedVisitors
from schemas.codec import encode
from schemas.operations import Tick
from serving.camera import TerminalKiosk
from serving.settings import load


class Place:
    """A kiosk and a job on one folder, and a visitor who comes."""

    def __init__(self, folder: Path) -> None:
        settings = load(None, {"data": str(folder), "kiosk.notice": "posted"}, {})
        self.said: list[str] = []
        self.clock = SetClock()
        self.log = EmbeddedLog(folder, self.clock)
        self.kiosk = TerminalKiosk(settings, self.log, threading.Event(), self.said.append)
        self.job_log = EmbeddedLog(folder, self.clock)
        pictures = FolderPictures(folder / "pictures")
        answerer = FrameAnswerer(LocalAnalyser(), pictures, self.clock)
        self.engine = EmbeddedEngine(self.job_log, greeting_loop(), answerer)
        self.shots = RecordedVisitors(1, 1).visitor(0).shots()
        self.clock.set(next(self.shots).at_ms)
        configure(self.job_log, settings.loops)

    def look(self, shot: Shot) -> None:
        """Let the kiosk see a shot at its time."""
        self.clock.set(shot.at_ms)
        self.kiosk._see(shot)

    def close(self) -> None:
        """End both."""
        self.engine.close()
        self.job_log.close()
        self.log.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(embedded_log, "BUSY_TIMEOUT_MS", 50)
    a_place = Place(tmp_path / "shop")
    yield a_place
    a_place.close()


def until_decided(place: Place) -> None:
    """Play until the job has a greeting for the visitor."""
    while not place.log.counts()["greetings"]:
        place.look(next(place.shots))
        place.engine.run_to_rest()


def test_a_greeting_the_log_cannot_note_is_not_shown_and_shown_when_it_can(place: Place) -> None:
    until_decided(place)
    other = sqlite3.connect(place.log.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    place.kiosk.greet()
    assert place.said == []
    other.execute("ROLLBACK")
    other.close()
    place.kiosk.greet()
    place.kiosk.greet()
    assert len(place.said) == 1
    assert place.log.counts()["impressions"] == 1


def test_a_frame_the_log_cannot_take_is_taken_at_the_next_shot(place: Place) -> None:
    other = sqlite3.connect(place.log.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    while not place.said:
        place.look(next(place.shots))
    assert "locked by another process" in place.said[0]
    assert place.kiosk.kiosk.counters.visits_started == 0
    other.execute("ROLLBACK")
    other.close()
    until_decided(place)
    assert place.log.counts()["frames"] == 1


def test_foreign_bytes_among_the_greetings_greet_nobody(place: Place) -> None:
    until_decided(place)
    place.log.append_bytes([("greetings", "kiosk-1", b"foreign")])
    place.log.append_bytes(
        [("greetings", "kiosk-1", encode(Tick(0, "a record of another stream")))]
    )
    place.kiosk.greet()
    place.kiosk.greet()
    assert len(place.said) == 1


def test_visits_are_played_by_the_wall_clock_and_counted(pho: Any, tmp_path: Path) -> None:
    ran = pho(
        "camera", "recorded", "--notice", "page", "--seconds", 3, "--data", tmp_path, "--json"
    )
    assert ran.status == 0, ran.err
    assert (ran.json["visits_started"], ran.json["visits_ended"], ran.json["frames_sent"]) == (
        1,
        1,
        1,
    )
