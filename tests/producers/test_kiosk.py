"""The kiosk on real recordings: real pixels, the real finder, the real analyser and stores."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from connectors.embedded_log import EmbeddedLog
from connectors.face_models import FaceFinder
from connectors.local_analyser import LocalAnalyser
from connectors.pictures import FolderPictures
from listed_logs import ListedLog, greeting_for
from producers.cameras import Shot
from producers.kiosk import Kiosk, KioskSettings, Places
from producers.recorded import RecordedVisitors, Visitor
from producers.tracker import TrackerSettings, VisitTracker
from schemas.codec import decode, encode
from schemas.decisions import DecisionShown, GreetingIssued, VisitEnded
from schemas.errors import InvalidRecord, LogFull, LogUnavailable, PhoError, PictureMissing
from schemas.frames import FrameCaptured, nearest

HAPPY_FROM = 0.45
"""Happiness from which a face counts as smiling."""


class Stage:
    """A kiosk with everything around it, and a way to play a visitor to it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.log = ListedLog()
        self.pictures = FolderPictures(folder / "pictures")
        numbers = itertools.count()
        places = Places(self.pictures, self.log, lambda at_ms: f"v{next(numbers)}-{at_ms}")
        given = {"loop_id": "greeting", "kiosk_id": "k1", "notice": "page", **settings}
        tracker = VisitTracker(TrackerSettings())
        self.kiosk = Kiosk(KioskSettings(**given), FaceFinder("short_range"), tracker, places)

    def play(self, visitor: Visitor, action_id: str | None = "joke", delay_ms: int = 100) -> None:
        for shot in visitor.shots():
            frames = len(self.log.of("frames"))
            self.kiosk.see(shot)
            if len(self.log.of("frames")) > frames and action_id is not None:
                frame = self.log.of("frames")[-1]
                if frame.phase == "pre":
                    at_ms = shot.at_ms + delay_ms
                    assert self.kiosk.show(self.greeting(at_ms, action_id), at_ms)
                    visitor.react(action_id, at_ms)

    def greeting(self, at_ms: int, action_id: str = "joke", **others: Any) -> GreetingIssued:
        given = {"action_id": action_id, "mood": "", **others}
        return greeting_for(self.kiosk.visit_id, "k1", at_ms, 2_000, **given)


def shots_until_pre(stage: Stage, visitor: Visitor) -> list[Shot]:
    """Play up to the shot that takes `pre`; return what is still to play."""
    shots = list(visitor.shots())
    while stage.kiosk.visit_id is None:
        stage.kiosk.see(shots.pop(0))
    return shots


def test_a_played_visitor_gives_exactly_pre_post_post_and_the_end(
    tmp_path: Path, world: RecordedVisitors
) -> None:
    stage = Stage(tmp_path, utc_offset_minutes=60, language="de")
    for index in range(12):
        stage.log.records.clear()
        visitor = world.visitor(index)
        stage.play(visitor)
        streams = [stream for stream, _ in stage.log.records]
        assert streams == ["frames", "impressions", "frames", "frames", "visits"]
        pre, first, second = stage.log.of("frames")
        start_ms, visit_id = visitor.truth.start_ms, pre.visit_id
        assert visit_id == f"v{index}-{start_ms + 1_500}"
        frames = [(f.frame_id, f.phase, f.sequence, f.captured_at_ms - start_ms)
                  for f in (pre, first, second)]  # fmt: skip
        assert frames == [
            (f"{visit_id}.pre.0", "pre", 0, 1_500),
            (f"{visit_id}.post.1", "post", 1, 3_500),
            (f"{visit_id}.post.2", "post", 2, 5_000),
        ]
        assert {f.decision_id for f in (pre, first, second)} == {visit_id}
        assert (pre.width, pre.height, pre.notice) == (640, 360, "page")
        assert (pre.utc_offset_minutes, pre.language) == (60, "de")
        (shown,) = stage.log.of("impressions")
        assert shown == DecisionShown(
            f"{visit_id}.shown", visit_id, "greeting", "joke", start_ms + 1_600, kiosk_id="k1"
        )
        (ended,) = stage.log.of("visits")
        assert ended == VisitEnded(
            *(f"{visit_id}.ended", visit_id, visit_id, "greeting", "k1", "left"),
            start_ms + 5_500 + 1_500,
            (first.frame_id, second.frame_id),
        )
    counters = stage.kiosk.counters
    assert (counters.visits_started, counters.visits_ended, counters.frames_sent) == (12, 12, 36)
    assert counters.greetings_shown == 12
    assert counters.frames_without_notice == 0


def test_the_reaction_seen_by_the_real_models_is_the_true_one(
    tmp_path: Path, world: RecordedVisitors
) -> None:
    stage, analyser, seen_pairs = Stage(tmp_path), LocalAnalyser(), set()
    actions = list(world.taste.chances)
    for index in range(24):
        stage.log.records.clear()
        visitor, action_id = world.visitor(index), actions[index % len(actions)]
        stage.play(visitor, action_id)
        happy = []
        for frame in stage.log.of("frames"):
            face = nearest(analyser.analyse(stage.pictures.get(frame.picture_id)).faces)
            assert face is not None
            happy.append(face.happiness >= HAPPY_FROM)
        after = visitor.smiles_after(action_id)
        assert happy == [visitor.truth.mood == "smile", after, after]
        seen_pairs.add((visitor.truth.person, visitor.truth.mood, after))
    assert len(seen_pairs) == 8, "both people, both moods, both reactions"


def test_the_tracked_box_is_the_visitors_face(tmp_path: Path, world: RecordedVisitors) -> None:
    stage = Stage(tmp_path)
    stage.play(world.visitor(0))
    analyser = LocalAnalyser()
    for frame in stage.log.of("frames"):
        face = nearest(analyser.analyse(stage.pictures.get(frame.picture_id)).faces)
        assert face is not None
        centre = face.box.left + face.box.width / 2
        assert frame.tracked_box.left < centre < frame.tracked_box.left + frame.tracked_box.width


def test_a_visitor_who_is_not_greeted_leaves_without_post(
    tmp_path: Path, world: RecordedVisitors
) -> None:
    stage = Stage(tmp_path)
    stage.play(world.visitor(0), action_id=None)
    assert [stream for stream, _ in stage.log.records] == ["frames", "visits"]
    assert stage.log.of("visits")[0].post_frame_ids == ()


def test_what_the_kiosk_appends_the_embedded_log_takes(
    tmp_path: Path, world: RecordedVisitors
) -> None:
    log = EmbeddedLog(tmp_path / "pho.db")
    pictures = FolderPictures(tmp_path / "pictures")
    places = Places(pictures, log, lambda _: "v0", lambda _: "0123456789abcdef" * 2)
    settings = KioskSettings("greeting", "k1", "posted")
    kiosk = Kiosk(settings, FaceFinder("short_range"), VisitTracker(TrackerSettings()), places)
    for shot in world.visitor(0).shots():
        kiosk.see(shot)
    assert {name: log.counts().get(name, 0) for name in ("frames", "visits")} == {
        "frames": 1,
        "visits": 1,
    }
    assert pictures.ids() == ["0123456789abcdef" * 2]
    log.close()


def test_without_a_notice_no_picture_is_stored_but_the_frame_is_sent(
    tmp_path: Path, world: RecordedVisitors
) -> None:
    stage = Stage(tmp_path, notice="none")
    stage.play(world.visitor(0))
    frames = stage.log.of("frames")
    assert [frame.notice for frame in frames] == ["none"] * 3
    assert stage.pictures.ids() == []
    for frame in frames:
        with pytest.raises(PictureMissing):
            stage.pictures.get(frame.picture_id)
    assert len({frame.picture_id for frame in frames}) == 3
    assert stage.kiosk.counters.frames_without_notice == 3
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_pictures_are_whole_jpeg_of_the_very_shot(tmp_path: Path, world: RecordedVisitors) -> None:
    stage = Stage(tmp_path)
    pre_ms = world.truth(0).start_ms + 1_500
    stage.play(world.visitor(0), action_id=None)
    (frame,) = stage.log.of("frames")
    jpeg = stage.pictures.get(frame.picture_id)
    assert jpeg.startswith(b"\xff\xd8\xff")
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    taken = next(shot for shot in world.visitor(0).shots() if shot.at_ms == pre_ms)
    assert decoded is not None
    assert np.abs(decoded.astype(int) - taken.picture.astype(int)).mean() < 3


@pytest.mark.parametrize("failure", [LogFull("full"), LogUnavailable("away")])
def test_a_picture_the_log_did_not_take_is_deleted_and_pre_is_taken_anew(
    tmp_path: Path, world: RecordedVisitors, failure: PhoError
) -> None:
    stage, raised = Stage(tmp_path), 0
    for number, shot in enumerate(world.visitor(0).shots()):
        stage.log.failure = failure if number < 5 else None
        try:
            stage.kiosk.see(shot)
        except type(failure):
            raised += 1
            assert stage.pictures.ids() == []
            assert stage.kiosk.visit_id is None
    assert raised == 2, "at 1.5 s and 2 s; at 2.5 s the log is back"
    assert [stream for stream, _ in stage.log.records] == ["frames", "visits"]
    assert stage.log.of("frames")[0].captured_at_ms == world.truth(0).start_ms + 2_500
    assert len(stage.pictures.ids()) == 1
    assert stage.kiosk.counters.appends_failed == 2
    assert stage.kiosk.counters.frames_sent == 1


def test_an_end_the_log_did_not_take_is_sent_with_the_next_shot(
    tmp_path: Path, world: RecordedVisitors
) -> None:
    stage = Stage(tmp_path)
    rest = shots_until_pre(stage, world.visitor(0))
    stage.log.failure = LogUnavailable("away")
    for shot in rest[:-1]:
        try:
            stage.kiosk.see(shot)
        except LogUnavailable:
            continue
    assert stage.log.of("visits") == []
    stage.log.failure = None
    stage.kiosk.see(rest[-1])
    assert len(stage.log.of("visits")) == 1
    assert stage.kiosk.visit_id is None


def test_only_post_frames_really_sent_are_named_at_the_end(
    tmp_path: Path, world: RecordedVisitors
) -> None:
    stage, visitor = Stage(tmp_path), world.visitor(0)
    for shot in visitor.shots():
        pre_taken = len(stage.log.of("frames")) == 1
        stage.log.failure = LogFull("full") if pre_taken and shot.at_ms % 10_000 == 3_000 else None
        try:
            stage.kiosk.see(shot)
        except LogFull:
            continue
        if stage.kiosk.counters.greetings_shown == 0 and stage.kiosk.visit_id:
            stage.kiosk.show(stage.greeting(shot.at_ms), shot.at_ms)
            visitor.react("joke", shot.at_ms)
    (ended,) = stage.log.of("visits")
    sent = [frame.frame_id for frame in stage.log.of("frames") if frame.phase == "post"]
    assert list(ended.post_frame_ids) == sent
    assert len(sent) == len(set(sent)) == 2
    assert stage.kiosk.counters.appends_failed == 1


def test_a_greeting_for_somebody_else_is_not_shown(tmp_path: Path, world: RecordedVisitors) -> None:
    stage = Stage(tmp_path)
    assert not stage.kiosk.show(stage.greeting(0), 0), "nobody is there"
    shots_until_pre(stage, world.visitor(0))
    now_ms = world.truth(0).start_ms + 1_600
    assert not stage.kiosk.show(stage.greeting(now_ms, visit_id="another"), now_ms)
    assert not stage.kiosk.show(stage.greeting(now_ms, kiosk_id="k2"), now_ms)
    assert stage.log.of("impressions") == []
    assert stage.kiosk.show(stage.greeting(now_ms), now_ms)
    assert not stage.kiosk.show(stage.greeting(now_ms), now_ms + 100), "a repeat"
    assert len(stage.log.of("impressions")) == 1
    assert stage.kiosk.counters.greetings_of_others == 4


def test_a_greeting_is_shown_before_it_expires_only(
    tmp_path: Path, world: RecordedVisitors
) -> None:
    stage = Stage(tmp_path)
    shots_until_pre(stage, world.visitor(0))
    now_ms = world.truth(0).start_ms + 1_600
    greeting = stage.greeting(now_ms)
    assert not stage.kiosk.show(greeting, greeting.expires_at_ms)
    assert stage.kiosk.counters.greetings_expired == 1
    assert stage.kiosk.show(greeting, greeting.expires_at_ms - 1)


def test_a_showing_the_log_did_not_take_does_not_count(
    tmp_path: Path, world: RecordedVisitors
) -> None:
    stage = Stage(tmp_path)
    rest = shots_until_pre(stage, world.visitor(0))
    stage.log.failure = LogFull("full")
    with pytest.raises(LogFull):
        stage.kiosk.show(stage.greeting(rest[0].at_ms), rest[0].at_ms)
    stage.log.failure = None
    for shot in rest:
        stage.kiosk.see(shot)
    assert [frame.phase for frame in stage.log.of("frames")] == ["pre"]


@pytest.mark.parametrize("reason", ["stopped", "camera_lost"])
def test_stop_ends_the_visit_once_with_its_reason(
    tmp_path: Path, world: RecordedVisitors, reason: Any
) -> None:
    stage = Stage(tmp_path)
    rest = shots_until_pre(stage, world.visitor(0))
    for _ in range(2):
        stage.kiosk.stop(rest[0].at_ms, reason)
    (ended,) = stage.log.of("visits")
    assert (ended.reason, ended.ended_at_ms) == (reason, rest[0].at_ms)
    assert stage.kiosk.visit_id is None


def test_frames_are_records_the_schema_takes(tmp_path: Path, world: RecordedVisitors) -> None:
    stage = Stage(tmp_path)
    stage.play(world.visitor(0))
    for _, record in stage.log.records:
        assert decode(encode(record)) == record
    assert isinstance(stage.log.of("frames")[0], FrameCaptured)


@pytest.mark.parametrize("wrong", [{"loop_id": ""}, {"kiosk_id": "é"}, {"jpeg_quality": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecord):
        KioskSettings(**{"loop_id": "greeting", "kiosk_id": "k1", "notice": "page", **wrong})
