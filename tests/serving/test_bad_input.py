"""What bad input gets: an answer or a dead letter with its place, and the loop goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import worlds
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.local_analyser import LocalAnalyser
from connectors.pictures import FolderPictures
from engines.analysis import FrameAnswerer
from engines.embedded import EmbeddedEngine
from engines.job import configure
from pipelines.topology import greeting_loop
from producers.stretches import load_stretches
from schemas.codec import decode, encode
from schemas.frames import FrameCaptured
from schemas.loops import LoopConfigured
from schemas.operations import Tick
from schemas.outcomes import OutcomeClosed
from schemas.streams import SIDE_STREAMS, STREAMS
from serving.ledger import read_ledger

HOUR_MS = 3_600_000
_ANALYSER: list[LocalAnalyser] = []


class Shop:
    """A job on a folder, with a clock that stands until it is moved."""

    def __init__(self, folder: Path, *configured: LoopConfigured) -> None:
        self.folder = folder
        self.clock = SetClock(worlds.START_MS)
        self.log = EmbeddedLog(folder, self.clock)
        self.clock.set(self.log.newest_log_time_ms())
        self.pictures = FolderPictures(folder / "pictures")
        if not _ANALYSER:
            _ANALYSER.append(LocalAnalyser())
        answerer = FrameAnswerer(_ANALYSER[0], self.pictures, self.clock)
        self.engine = EmbeddedEngine(self.log, greeting_loop(), answerer)
        configure(self.log, configured)
        self.rest()

    def rest(self, after_ms: int = 1) -> None:
        """Let time pass, and the job run to rest."""
        self.clock.set(self.clock() + after_ms)
        self.engine.run_to_rest()

    def night(self) -> None:
        """Let an hour pass in which nobody comes: the ticker says so."""
        self.clock.set(self.clock() + HOUR_MS)
        self.log.append("ticks", Tick(self.clock(), "test"))
        self.rest()
        self.rest()

    def frame(self, picture: bytes | None, name: str = "v", **changes: Any) -> FrameCaptured:
        """Store a picture and append its frame; None: a frame whose picture is nowhere."""
        frame = worlds.captured(name, "pre", 0, self.clock(), None)
        picture_id = "0" * 32 if picture is None else self.pictures.put(picture)
        frame = dataclasses.replace(
            frame, edge_analysis=None, picture_id=picture_id, notice="posted", **changes
        )
        self.log.append("frames", frame)
        self.rest()
        return frame

    def values(self, stream: str) -> list[Any]:
        """Return the records of a stream that are records."""
        return [decode(row.value) for row in self.log.scan(stream)]

    def visit(self, name: str) -> None:
        """Let somebody come, smile and go, as a kiosk with its own analysis tells it."""
        self.log.append("frames", worlds.captured(name, "pre", 0, self.clock(), 0.1))
        self.rest()
        greeting = self.values("greetings")[-1]
        assert greeting.visit_id == name
        self.log.append("impressions", worlds.shown(name, greeting.action_id, self.clock()))
        self.rest(2_000)
        self.log.append("frames", worlds.captured(name, "post", 1, self.clock(), 0.9))
        self.log.append("visits", worlds.ended(name, self.clock(), posts=1))
        self.rest()
        self.rest()

    def outcomes(self) -> dict[str, OutcomeClosed]:
        """Return the outcome of each visit."""
        found = [value for value in self.values("outcomes") if isinstance(value, OutcomeClosed)]
        outcomes = {outcome.choice.decision_id: outcome for outcome in found}
        assert len(outcomes) == len(found)
        return outcomes

    def close(self) -> None:
        """End the job."""
        self.engine.close()
        self.log.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    a_shop = Shop(tmp_path / "shop", worlds.loop())
    yield a_shop
    a_shop.close()


def jpeg(picture: Any) -> bytes:
    """Encode a picture."""
    return bytes(cv2.imencode(".jpg", picture)[1].tobytes())


def smiling(side: int = 1) -> bytes:
    """Return a picture of so many times so many people, all smiling."""
    picture = load_stretches(None).picture("man/smile", 0)
    return jpeg(np.tile(picture[:, 140:500], (side, side, 1)))


# Pictures


def test_nobody_in_the_picture_gets_the_baseline_and_is_not_learned(shop: Shop) -> None:
    shop.frame(jpeg(load_stretches(None).picture("empty", 0)))
    (answer,) = shop.values("analyses")
    (decision,) = shop.values("decisions")
    assert answer.status == "no_face"
    assert decision.choice.mode == "fallback"
    assert decision.choice.action_id == decision.choice.baseline_id
    shop.night()
    assert not shop.outcomes()["v"].learnable
    assert shop.values("policies") == []


def test_of_nine_faces_the_nearest_decides(shop: Shop) -> None:
    shop.frame(smiling(3))
    (answer,) = shop.values("analyses")
    (decision,) = shop.values("decisions")
    assert len(answer.faces) == 9
    largest = max(answer.faces, key=lambda face: face.box.width * face.box.height)
    assert decision.choice.happiness_before == largest.happiness > 0.5


HOSTILE = {
    "empty": b"",
    "torn": smiling()[:3_000],
    "no picture": b"hello, I am no picture at all" * 50,
    "60 MB": b"\xff\xd8\xff" + bytes(60_000_000),
    "a bomb": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (50_000).to_bytes(4, "big") * 2 + bytes(9),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_picture_that_is_none_is_answered_failed_and_the_visitor_greeted(
    shop: Shop, kind: str
) -> None:
    shop.frame(HOSTILE[kind])
    (answer,) = shop.values("analyses")
    assert answer.status == "failed"
    assert answer.error
    assert shop.values("decisions")[0].choice.mode == "fallback"
    assert len(shop.values("greetings")) == 1
    assert shop.pictures.ids() == []
    shop.visit("next")
    assert shop.outcomes()["next"].result == "rewarded"


def test_a_picture_that_is_gone_is_answered_failed(shop: Shop) -> None:
    shop.frame(None)
    (answer,) = shop.values("analyses")
    assert (answer.status, len(shop.values("greetings"))) == ("failed", 1)


# Frames


def test_a_frame_twice_is_one_visit(shop: Shop) -> None:
    frame = shop.frame(smiling())
    shop.log.append("frames", frame)
    shop.rest()
    assert [answer.status for answer in shop.values("analyses")] == ["ok", "failed"]
    assert len(shop.values("decisions")) == len(shop.values("greetings")) == 1


def test_a_frame_late_by_an_hour_is_answered_expired_and_decides_nothing(shop: Shop) -> None:
    shop.frame(smiling(), captured_at_ms=shop.clock() - HOUR_MS)
    (answer,) = shop.values("analyses")
    assert answer.status == "expired"
    assert shop.values("decisions") == []
    assert shop.pictures.ids() == []


def test_a_frame_from_the_future_counts_as_of_now(shop: Shop) -> None:
    future_ms = shop.clock() + HOUR_MS
    shop.log.append("frames", worlds.captured("v", "pre", 0, future_ms, 0.1))
    shop.rest()
    (decision,) = shop.values("decisions")
    assert abs(decision.choice.decided_at_ms - shop.clock()) < 60_000
    shop.log.append("impressions", worlds.shown("v", decision.choice.action_id, future_ms))
    shop.log.append("frames", worlds.captured("v", "post", 1, future_ms, 0.9))
    shop.night()
    assert shop.outcomes()["v"].closed_by == "deadline"
    assert read_ledger(shop.log).balanced


def test_a_frame_without_a_notice_is_refused_and_counted(shop: Shop) -> None:
    frame = worlds.captured("v", "pre", 0, shop.clock(), 0.9, notice="none")
    shop.log.append("frames", frame)
    shop.rest()
    (answer,) = shop.values("analyses")
    assert (answer.status, answer.faces) == ("refused", ())
    assert shop.values("decisions") == []
    assert read_ledger(shop.log).refused == 1


def test_a_kiosk_nobody_named_is_served(shop: Shop) -> None:
    frame = worlds.captured("v", "pre", 0, shop.clock(), 0.9, kiosk_id="a new kiosk")
    shop.log.append("frames", frame)
    shop.rest()
    assert [greeting.kiosk_id for greeting in shop.values("greetings")] == ["a new kiosk"]


# Dead letters


FOREIGN = {
    "torn": encode(worlds.shown("v", "a0", worlds.START_MS))[:-3],
    "unknown schema": b"\xc3\x01" + bytes(8) + b"something",
    "not ours": b'{"json": true}',
    "empty": b"",
    "wrong record": encode(Tick(worlds.START_MS, "test")),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("stream", ["frames", "analyses", "impressions", "visits", "outcomes"])
def test_foreign_bytes_become_a_dead_letter_once_and_the_loop_goes_on(
    shop: Shop, stream: str, kind: str
) -> None:
    (position,) = shop.log.append_bytes([(stream, "key", FOREIGN[kind])])
    shop.visit("next")
    (letter,) = shop.values("dead-letters")
    assert (letter.stream, letter.offset, letter.key) == (stream, position, "key")
    assert letter.log_time_ms == shop.log.at(position).log_time_ms
    assert letter.raw == FOREIGN[kind]
    assert letter.error
    shop.close()
    # A restart reads it again and does not write it again.
    again = Shop(shop.folder, worlds.loop())
    again.night()
    assert len(again.values("dead-letters")) == 1
    again.close()


def test_a_frame_of_an_unknown_loop_is_a_dead_letter_until_somebody_configures_it(
    shop: Shop, pho: Any
) -> None:
    other = worlds.captured("v", "pre", 0, shop.clock(), 0.1, loop_id="farewell")
    shop.log.append("frames", other)
    shop.rest()
    (letter,) = shop.values("dead-letters")
    assert letter.reason == "unknown_loop"
    assert "farewell" in letter.error
    assert shop.values("decisions") == []
    assert read_ledger(shop.log).balanced

    (told,) = pho("dead-letters", "--data", shop.folder, "--json").json
    assert (told["stream"], told["reason"], told["replayed"]) == ("analyses", "unknown_loop", False)
    configure(shop.log, (worlds.loop(loop_id="farewell"),))
    shop.rest()
    shop.log.append_bytes([(letter.stream, letter.key, letter.raw)])
    shop.rest()
    assert [made.choice.loop_id for made in shop.values("decisions")] == ["farewell"]
    assert [greeting.loop_id for greeting in shop.values("greetings")] == ["farewell"]

    # By the wall's clock the visitor is long gone: the command brings it back, and nobody is
    # decided for twice.
    assert pho("dead-letters", "--replay", "--data", shop.folder, "--json").json == {
        "replayed": 1,
        "unreadable": 0,
    }
    shop.rest()
    assert len(shop.values("decisions")) == 1
    assert [side.reason for side in shop.values("late")] == ["analysis_too_old"]


def test_dead_letters_are_listed_and_each_is_replayed_once(shop: Shop, pho: Any) -> None:
    (position,) = shop.log.append_bytes([("impressions", "key", FOREIGN["torn"])])
    shop.rest()
    listed = pho("dead-letters", "--data", shop.folder)
    assert listed.status == 0
    assert f"impressions[{position}]" in listed.out
    (told,) = pho("dead-letters", "--data", shop.folder, "--json").json
    assert (told["stream"], told["offset"], told["replayed"]) == ("impressions", position, False)
    assert bytes.fromhex(told["raw_hex"]) == FOREIGN["torn"]

    replay = ("dead-letters", "--replay", "--data", shop.folder, "--json")
    assert pho(*replay).json == {"replayed": 1, "unreadable": 0}
    shop.rest()
    # It fails again and comes back as a new letter; only that one is replayed next.
    first, second = pho("dead-letters", "--data", shop.folder, "--json").json
    assert (first["replayed"], second["replayed"]) == (True, False)
    assert second["offset"] > position
    assert pho(*replay).json == {"replayed": 1, "unreadable": 0}
    assert pho(*replay).json == {"replayed": 0, "unreadable": 0}


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_command_stumbles_over_foreign_bytes_in_any_stream(
    pho: Any, demo_folder: Path, kind: str
) -> None:
    before = pho("demo", "--visits", 6, "--data", demo_folder, "--json").json
    log = EmbeddedLog(demo_folder)
    # Side outputs hold records that the engine alone writes.
    streams = [name for name in STREAMS if name not in SIDE_STREAMS]
    for stream in streams:
        log.append_bytes([(stream, "key", FOREIGN[kind])])
    log.close()
    for line in (("ledger",), ("topics",), ("topics", "loops"), ("loops",), ("dead-letters",)):
        ran = pho(*line, "--data", demo_folder, "--json")
        assert (ran.status, ran.err) == (0, ""), line
    after = pho("demo", "--visits", 6, "--data", demo_folder, "--json").json
    assert after == before
    # The job starts, and makes dead letters of what it reads.
    assert pho("run", "--seconds", 1, "--data", demo_folder).status == 0
    letters = pho("dead-letters", "--data", demo_folder, "--json").json
    assert {letter["stream"] for letter in letters} >= {"loops", "policies", "decisions", "frames"}
    assert pho("ledger", "--data", demo_folder).status == 0
