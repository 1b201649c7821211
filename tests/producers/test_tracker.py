"""The visit tracker: one stay is one visit."""

from __future__ import annotations

import pytest

from producers.tracker import (
    Event,
    Faces,
    TakePicture,
    TrackerSettings,
    Tracking,
    VisitOver,
    VisitStarted,
    VisitTracker,
    movement,
    overlap,
)
from schemas.errors import InvalidRecord
from schemas.frames import Box

VISITOR = Box(0.40, 0.30, 0.20, 0.35)
BESIDE = Box(0.75, 0.30, 0.15, 0.30)
CLOSER = Box(0.00, 0.05, 0.45, 0.80)
T0 = 1_000_000


class Playing:
    """Runs a tracker by hand and remembers its events."""

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.tracker = VisitTracker(settings if settings is not None else TrackerSettings())
        self.state = Tracking()
        self.events: list[tuple[int, Event]] = []

    def see(self, at_ms: int, *boxes: Box, confidence: float = 0.95) -> tuple[Event, ...]:
        faces: Faces = tuple((box, confidence) for box in boxes)
        self.state, events = self.tracker.step(self.state, T0 + at_ms, faces)
        self.events += [(at_ms, event) for event in events]
        return events

    def see_every(self, step_ms: int, from_ms: int, to_ms: int, *boxes: Box) -> None:
        for at_ms in range(from_ms, to_ms, step_ms):
            self.see(at_ms, *boxes)

    def shown(self, at_ms: int) -> None:
        self.state = self.tracker.shown(self.state, T0 + at_ms)

    def of(self, kind: type[Event]) -> list[tuple[int, Event]]:
        return [(at_ms, event) for at_ms, event in self.events if isinstance(event, kind)]


def moved(box: Box, share: float) -> Box:
    return Box(box.left + share * box.width, box.top, box.width, box.height)


def test_pre_is_taken_when_a_face_stood_still_for_the_time_set() -> None:
    play = Playing()
    assert play.see(0, VISITOR) == ()
    assert play.see(399, VISITOR) == ()
    assert play.see(400, VISITOR) == (VisitStarted(1, VISITOR), TakePicture("pre", 0, VISITOR))


def test_who_walks_through_the_picture_is_no_visitor() -> None:
    play = Playing()
    for step in range(8):
        play.see(step * 250, moved(VISITOR, step * 0.3))
    play.see_every(250, 2_000, 6_000)
    assert play.events == []


def test_a_face_that_moves_less_than_the_share_stands_still() -> None:
    play = Playing()
    play.see(0, VISITOR)
    play.see(200, moved(VISITOR, 0.24))
    assert play.see(400, moved(VISITOR, -0.24))
    again = Playing()
    again.see(0, VISITOR)
    again.see(200, moved(VISITOR, 0.26))
    assert again.see(400, VISITOR) == ()


def test_a_small_or_unsure_face_starts_no_visit() -> None:
    play = Playing()
    for at_ms in range(0, 3_000, 250):
        play.see(at_ms, Box(0.4, 0.3, 0.08, 0.119))
        play.see(at_ms + 100, VISITOR, confidence=0.69)
    assert play.events == []


def test_the_nearest_face_is_the_visitor() -> None:
    play = Playing()
    play.see_every(250, 0, 501, BESIDE, VISITOR)
    assert [event for _, event in play.of(VisitStarted)] == [VisitStarted(1, VISITOR)]


def test_somebody_walking_past_closer_does_not_steal_the_visit() -> None:
    play = Playing()
    play.see_every(250, 0, 1_001, VISITOR)
    play.shown(1_000)
    play.see_every(250, 1_250, 3_500, CLOSER, VISITOR)
    taken = [event for _, event in play.of(TakePicture)]
    assert taken == [TakePicture("pre", 0, VISITOR), TakePicture("post", 1, VISITOR)]


def test_somebody_who_hides_the_visitor_for_a_moment_does_not_take_over() -> None:
    play = Playing()
    play.see_every(250, 0, 1_001, VISITOR)
    play.shown(1_000)
    hiding = Box(0.30, 0.05, 0.45, 0.85)  # overlaps, but is five times as large
    play.see_every(250, 1_250, 2_250, VISITOR)
    play.see_every(250, 2_250, 3_250, hiding)
    play.see_every(250, 3_250, 4_500, VISITOR)
    boxes = {event.box for _, event in play.of(TakePicture) if isinstance(event, TakePicture)}
    assert boxes == {VISITOR}
    assert play.of(VisitOver) == []


def test_a_flicker_shorter_than_the_bridge_does_not_split_the_stay() -> None:
    play = Playing()
    play.see_every(250, 0, 1_001, VISITOR)
    play.see_every(250, 1_250, 2_500)
    play.see_every(250, 2_499, 9_000, VISITOR)
    assert len(play.of(VisitStarted)) == 1
    assert play.of(VisitOver) == []


def test_a_visit_ends_when_the_face_is_gone_for_the_bridge() -> None:
    play = Playing()
    play.see_every(250, 0, 1_001, VISITOR)
    assert play.see(2_499) == ()
    assert play.see(2_500) == (VisitOver("left", T0 + 2_500),)
    assert play.see(2_750) == ()


def test_the_end_of_a_stay_does_not_wait_for_a_slow_camera() -> None:
    play = Playing()
    play.see_every(250, 0, 1_001, VISITOR)
    assert play.see(60_000) == (VisitOver("left", T0 + 2_500),)


def test_a_stall_of_the_camera_does_not_split_the_stay_but_a_long_one_does() -> None:
    play = Playing()
    play.see_every(250, 0, 1_001, VISITOR)
    assert play.see(5_999, VISITOR) == ()
    assert play.see(10_999, VISITOR) == (VisitOver("left", T0 + 7_499),)
    assert play.see(11_400, VISITOR)[0] == VisitStarted(2, VISITOR)


def test_another_person_after_the_first_is_another_visit() -> None:
    play = Playing()
    play.see_every(250, 0, 1_001, VISITOR)
    play.see_every(250, 1_250, 6_001, BESIDE)
    assert [event for _, event in play.of(VisitStarted)] == [
        VisitStarted(1, VISITOR),
        VisitStarted(2, BESIDE),
    ]
    assert len(play.of(VisitOver)) == 1


def test_the_next_in_line_does_not_wait_until_who_passed_is_forgotten() -> None:
    play = Playing()
    play.see(0, BESIDE)
    play.see(250, VISITOR)
    assert play.see(650, VISITOR)[0] == VisitStarted(1, VISITOR)


def test_who_leaves_before_pre_is_forgotten_silently() -> None:
    play = Playing()
    play.see(0, VISITOR)
    play.see_every(250, 250, 4_000)
    assert play.events == []
    play.see(4_000, VISITOR)
    assert play.see(4_100, VISITOR) == (), "it must stand still anew"


def test_post_pictures_come_at_the_first_picture_at_or_after_their_time() -> None:
    play = Playing()
    play.see_every(500, 0, 1_001, VISITOR)
    play.shown(1_001)
    play.see_every(500, 1_500, 9_000, VISITOR)
    posts = play.of(TakePicture)[1:]
    assert [at_ms for at_ms, _ in posts] == [3_000, 4_500]
    assert [event for _, event in posts] == [
        TakePicture("post", 1, VISITOR),
        TakePicture("post", 2, VISITOR),
    ]


def test_a_post_picture_due_exactly_now_is_taken_now() -> None:
    play = Playing()
    play.see_every(500, 0, 1_001, VISITOR)
    play.shown(1_000)
    assert play.see(2_499, VISITOR) == ()
    assert play.see(2_500, VISITOR) == (TakePicture("post", 1, VISITOR),)


def test_no_post_picture_is_taken_of_a_scene_without_the_visitor() -> None:
    play = Playing()
    play.see_every(250, 0, 1_001, VISITOR)
    play.shown(1_000)
    play.see_every(250, 1_250, 2_251, VISITOR)
    assert play.see(2_500, BESIDE) == ()
    assert play.see(2_750, VISITOR) == (TakePicture("post", 1, VISITOR),)


def test_posts_that_a_gap_made_due_together_are_pictures_of_two_moments() -> None:
    play = Playing()
    play.see_every(250, 0, 1_001, VISITOR)
    play.shown(1_000)
    assert play.see(4_900, VISITOR) == (TakePicture("post", 1, VISITOR),)
    assert play.see(5_150, VISITOR) == (TakePicture("post", 2, VISITOR),)


def test_only_the_first_showing_plans_pictures() -> None:
    play = Playing()
    play.shown(0)
    assert play.state == Tracking()
    play.see_every(250, 0, 1_001, VISITOR)
    play.shown(1_000)
    play.shown(1_900)
    play.see_every(250, 1_250, 12_000, VISITOR)
    assert [at_ms for at_ms, _ in play.of(TakePicture)] == [500, 2_500, 4_000]


def test_a_visit_too_long_times_out_and_who_stands_on_starts_no_second_one() -> None:
    play = Playing()
    play.see_every(500, 0, 200_000, VISITOR)
    play.see_every(500, 200_000, 201_000)
    play.see_every(500, 201_000, 202_000, VISITOR)
    assert play.of(VisitOver) == [(60_500, VisitOver("timeout", T0 + 60_500))]
    assert len(play.of(VisitStarted)) == 1
    play.see_every(500, 202_000, 205_000)
    play.see_every(500, 205_000, 206_000, VISITOR)
    assert [event for _, event in play.of(VisitStarted)][1:] == [VisitStarted(2, VISITOR)]


@pytest.mark.parametrize("reason", ["stopped", "camera_lost"])
def test_close_ends_a_visit_once_and_says_why(reason: str) -> None:
    play = Playing()
    play.see_every(250, 0, 1_001, VISITOR)
    for expected in ((VisitOver(reason, T0 + 1_100),), ()):  # type: ignore[arg-type]
        play.state, events = play.tracker.close(play.state, T0 + 1_100, reason)  # type: ignore[arg-type]
        assert events == expected


def test_a_clock_that_jumps_back_does_not_turn_the_times_of_events_back() -> None:
    play = Playing()
    play.see_every(250, 10_000, 11_001, VISITOR)
    play.see(5_000)
    _, events = play.tracker.close(play.state, T0, "stopped")
    assert events == (VisitOver("stopped", T0 + 11_000),)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_face_height": 0.0},
        {"min_confidence": float("nan")},
        {"post_delays_ms": (3_000, 1_500)},
        {"post_delays_ms": (1_500, 1_500)},
        {"post_delays_ms": (-1,)},
        {"bridge_ms": 0},
        {"blind_ms": 1_499},
        {"min_overlap": 0.0},
        {"visit_max_ms": 0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidRecord):
        TrackerSettings(**wrong)  # type: ignore[arg-type]


def test_overlap_and_movement_measure_what_they_say() -> None:
    unit = Box(0.0, 0.0, 0.2, 0.2)
    assert overlap(unit, unit) == 1.0
    assert overlap(unit, Box(0.1, 0.0, 0.2, 0.2)) == pytest.approx(1 / 3)
    assert overlap(unit, Box(0.2, 0.2, 0.2, 0.2)) == 0.0
    assert movement(unit, Box(0.0, 0.05, 0.2, 0.2)) == pytest.approx(0.25)
    assert movement(unit, Box(-0.05, -0.05, 0.3, 0.3)) == pytest.approx(0.5)
