"""The visit tracker's rules, under whatever faces, flicker, gaps and showings come."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from producers.tracker import (
    Event,
    Faces,
    TakePicture,
    TrackerSettings,
    Tracking,
    VisitOver,
    VisitStarted,
    VisitTracker,
)
from schemas.frames import Box

SETTINGS = TrackerSettings(visit_max_ms=20_000)
T0 = 1_000_000

boxes = st.builds(
    Box,
    st.floats(-0.2, 1.0),
    st.floats(-0.2, 1.0),
    st.floats(0.0, 0.9),
    st.floats(0.0, 0.9),
)
# Few places, so that somebody often stands still; any box, so that nothing is taken for granted.
places = st.sampled_from(
    (Box(0.4, 0.3, 0.2, 0.35), Box(0.42, 0.3, 0.2, 0.35), Box(0.7, 0.3, 0.15, 0.3))
)
faces = st.lists(
    st.tuples(st.one_of(places, places, places, boxes), st.sampled_from((0.5, 0.7, 0.95))),
    max_size=3,
).map(tuple)
gaps_ms = st.one_of(
    st.sampled_from((0, 250, 500, 1_499, 1_500, 4_999, 5_000)), st.integers(-3_000, 30_000)
)
acts = st.sampled_from(("look", "look", "look", "look", "show", "close"))


@dataclass(frozen=True)
class Happening:
    """One event, with what was true when it came."""

    at_ms: int
    event: Event
    was_shown: bool


def play(script: list[tuple[str, int, Faces]]) -> list[Happening]:
    tracker, state, at_ms = VisitTracker(SETTINGS), Tracking(), T0
    shown_in: int | None = None
    happenings: list[Happening] = []
    for act, gap_ms, seen in script:
        at_ms += gap_ms
        if act == "show":
            if state.stage == "present":
                shown_in = state.visits
            state = tracker.shown(state, at_ms)
            continue
        if act == "close":
            state, events = tracker.close(state, at_ms, "camera_lost")
        else:
            state, events = tracker.step(state, at_ms, seen)
        happenings += [Happening(state.at_ms, one, shown_in == state.visits) for one in events]
    state, events = tracker.close(state, at_ms, "stopped")
    return happenings + [Happening(state.at_ms, one, shown_in == state.visits) for one in events]


def by_visit(happenings: list[Happening]) -> list[list[Happening]]:
    visits: list[list[Happening]] = []
    for happening in happenings:
        if isinstance(happening.event, VisitStarted):
            visits.append([])
        visits[-1].append(happening)
    return visits


scripts = st.lists(st.tuples(acts, gaps_ms, faces), max_size=60)


@given(scripts)
def test_every_visit_starts_with_its_only_pre_and_ends_exactly_once(
    script: list[tuple[str, int, Faces]],
) -> None:
    for number, visit in enumerate(by_visit(play(script)), start=1):
        start, first, *between, end = [happening.event for happening in visit]
        assert isinstance(start, VisitStarted)
        assert start.visit_number == number
        assert first == TakePicture("pre", 0, start.box)
        assert isinstance(end, VisitOver)
        assert all(isinstance(one, TakePicture) and one.phase == "post" for one in between)


@given(scripts)
def test_sequences_rise_and_post_comes_only_after_shown(
    script: list[tuple[str, int, Faces]],
) -> None:
    for visit in by_visit(play(script)):
        taken = [one for one in visit if isinstance(one.event, TakePicture)]
        sequences = [one.event.sequence for one in taken if isinstance(one.event, TakePicture)]
        assert sequences == list(range(len(taken)))
        assert all(one.was_shown for one in taken[1:])
        assert len(taken) <= 1 + len(SETTINGS.post_delays_ms)


@given(scripts)
def test_times_never_go_back(script: list[tuple[str, int, Faces]]) -> None:
    last_ms = 0
    for happening in play(script):
        event = happening.event
        at_ms = event.at_ms if isinstance(event, VisitOver) else happening.at_ms
        assert last_ms <= at_ms <= happening.at_ms
        last_ms = at_ms


@given(
    st.lists(
        st.tuples(st.integers(1, 700), st.sampled_from(("seen", "seen", "hidden", "others"))),
        min_size=1,
        max_size=80,
    ),
    st.floats(-0.3, 0.3),
)
def test_a_flicker_shorter_than_the_bridge_never_splits_a_stay(
    shots: list[tuple[int, str]], sway: float
) -> None:
    visitor, other = Box(0.4, 0.3, 0.2, 0.35), Box(0.0, 0.0, 0.38, 0.9)
    tracker, at_ms = VisitTracker(SETTINGS), T0 + 400
    state, _ = tracker.step(Tracking(), T0, ((visitor, 0.9),))
    state, started = tracker.step(state, at_ms, ((visitor, 0.9),))
    assert len(started) == 2
    seen_at_ms = at_ms
    for number, (gap_ms, what) in enumerate(shots):
        at_ms += gap_ms
        if at_ms >= T0 + 400 + SETTINGS.visit_max_ms:
            return
        swayed = Box(visitor.left + (number % 2) * sway * 0.2, 0.3, 0.2, 0.35)
        # The face comes back in time, whatever was drawn: the flicker is always bridged.
        if what != "seen" and at_ms - seen_at_ms < SETTINGS.bridge_ms:
            crowd: Faces = ((other, 0.9),) if what == "others" else ()
        else:
            crowd, seen_at_ms = ((swayed, 0.6), (other, 0.9)), at_ms
        state, events = tracker.step(state, at_ms, crowd)
        assert events == ()
