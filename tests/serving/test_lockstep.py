"""Lock-step: the recording owns the clock, and played again it changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import worlds
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.local_analyser import LocalAnalyser
from connectors.pictures import FolderPictures
from engines.analysis import FrameAnswerer
from engines.embedded import EmbeddedEngine
from engines.job import configure
from pipelines.topology import TICK_INTERVAL_MS, greeting_loop
from schemas.codec import decode
from schemas.outcomes import OutcomeClosed
from serving.lockstep import LockStep

START_MS = worlds.START_MS
TAIL_MS = 20_000


class Place:
    """A folder, and a recording that plays into it, from the beginning each time it is opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open()

    def open(self) -> None:
        """Start, as a process does."""
        clock = SetClock()
        self.log = EmbeddedLog(self.folder, clock)
        self.pictures = FolderPictures(self.folder / "pictures")
        answerer = FrameAnswerer(LocalAnalyser(), self.pictures, clock, picture_ttl_ms=None)
        self.engine = EmbeddedEngine(self.log, greeting_loop(1), answerer, limited=False)
        self.step = LockStep(self.log, clock, self.engine, TAIL_MS, self.pictures)
        if not clock():
            clock.set(START_MS)
        configure(self.log, (worlds.loop(),))
        self.step.settle()

    def close(self) -> None:
        """End the process."""
        self.engine.close()
        self.log.close()

    def restart(self) -> None:
        """End it and start another."""
        self.close()
        self.open()

    def play(self, name: str, at_ms: int) -> str | None:
        """Play a visit that is greeted, smiles and ends; return the greeting's action."""
        self.step.append("frames", worlds.captured(name, "pre", 0, at_ms, 0.1))
        greeting = self.step.greeting("kiosk-1", name)
        if greeting is None:
            return None
        self.step.append("impressions", worlds.shown(name, greeting.action_id, at_ms + 100))
        self.step.append("frames", worlds.captured(name, "post", 1, at_ms + 2_000, 0.9))
        self.step.append("visits", worlds.ended(name, at_ms + 3_000, posts=1))
        return greeting.action_id

    def rows(self, *streams: str) -> list[tuple[int, str, Any]]:
        """Return records with their log times, without the time an analysis took."""
        told = []
        for row in self.log.scan(*streams):
            value = decode(row.value)
            if row.stream == "analyses":
                value = dataclasses.replace(value, milliseconds=0.0)
            told.append((row.log_time_ms, row.stream, value))
        return told


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    a_place = Place(tmp_path)
    yield a_place
    a_place.close()


def test_each_record_stands_at_its_own_time_and_the_greeting_is_there_at_once(
    place: Place,
) -> None:
    assert place.play("a", START_MS + 10_000) is not None
    times = [at_ms for at_ms, stream, _ in place.rows("frames", "impressions", "visits")]
    assert times == [START_MS + 10_000 + more for more in (0, 100, 2_000, 3_000)]
    (decided,) = place.rows("decisions")
    assert decided[0] == START_MS + 10_000


def test_ticks_stand_where_the_ticker_would_have_written_them_and_end_with_the_tail(
    place: Place,
) -> None:
    place.play("a", START_MS + 1_000)
    after_ms = START_MS + 4_000
    place.step.advance(after_ms + 3 * TAIL_MS)
    ticks = [at_ms for at_ms, _, _ in place.rows("ticks") if at_ms > after_ms]
    assert ticks == list(range(ticks[0], ticks[-1] + 1, TICK_INTERVAL_MS))
    assert ticks[0] == after_ms + TICK_INTERVAL_MS
    assert ticks[-1] == after_ms + TAIL_MS


def test_no_time_passes_backwards(place: Place) -> None:
    place.play("a", START_MS + 10_000)
    end = place.log.end()
    place.step.advance(START_MS)
    assert place.log.end() == end


def test_nobody_is_greeted_who_was_not_decided_for(place: Place) -> None:
    assert place.step.greeting("kiosk-1", "nobody") is None
    place.play("a", START_MS + 1_000)
    assert place.step.greeting("kiosk-2", "a") is None


@pytest.mark.parametrize("restarts", [1, 3])
def test_what_is_played_again_after_a_restart_changes_nothing(
    place: Place, tmp_path: Path, restarts: int
) -> None:
    action_id = place.play("a", START_MS + 1_000)
    before = place.rows()
    for _ in range(restarts):
        place.restart()
        assert place.play("a", START_MS + 1_000) == action_id
    assert place.rows() == before


def test_a_picture_stored_again_for_a_frame_that_has_its_answer_is_deleted(place: Place) -> None:
    camera = {"picture_id": "a" * 32, "edge_analysis": None}
    frame = worlds.captured("a", "pre", 0, START_MS + 1_000, None, **camera)
    place.pictures.put(b"pixels", "a" * 32)
    place.step.append("frames", frame)
    assert place.pictures.ids() == []
    place.restart()
    place.pictures.put(b"pixels", "a" * 32)
    place.step.append("frames", frame)
    assert place.pictures.ids() == []


def test_the_end_is_the_same_however_often_it_is_reached(place: Place) -> None:
    place.play("a", START_MS + 1_000)
    place.step.finish()
    outcomes = [value for _, _, value in place.rows("outcomes") if isinstance(value, OutcomeClosed)]
    assert [outcome.result for outcome in outcomes] == ["rewarded"]
    end = place.rows()
    place.restart()
    place.step.finish()
    assert place.rows() == end


def test_a_process_that_died_among_the_last_ticks_ends_at_the_same_time(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    undisturbed = Place(tmp_path_factory.mktemp("undisturbed"))
    undisturbed.play("a", START_MS + 1_000)
    undisturbed.step.finish()
    place.play("a", START_MS + 1_000)
    last_ms = place.log.newest_log_time_ms()
    # As `advance` leaves the log when the process is killed right after its Ticks.
    ticks_ms = range(last_ms + TICK_INTERVAL_MS, last_ms + TAIL_MS + 1, TICK_INTERVAL_MS)
    place.log.append_ticks(ticks_ms, "recording")
    place.restart()
    place.step.finish()
    assert place.rows() == undisturbed.rows()
    undisturbed.close()
