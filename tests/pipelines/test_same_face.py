"""Rule 3 of the join: a picture counts only when it shows the greeted visitor, and readably."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from joining import Alone
from pipelines.join import Join
from pipelines.operators import Record
from pipelines.rewards import observed, reason
from pipelines.same_face import GROWN_MAX, MOVED_MAX, QUALITY_MIN, jumped
from pipelines.windows import Ended, Open, Shown, member_of
from schemas.frames import Box, FrameAnalyzed
from worlds import START_MS, analyzed, decided, ended, face, loop, rewarded, shown

T = START_MS
BEFORE = face(0.2)
BOX = BEFORE.box
"""0.3 wide and high, its centre at 0.45, 0.35."""


def post(happy: float | None = 0.9, at_ms: int = T + 2_000, **face_changes: Any) -> FrameAnalyzed:
    """Return the answer to a picture after the greeting, its face changed."""
    answer = analyzed("v", "post", 1, at_ms, happy)
    if happy is None:
        return answer
    return replace(answer, faces=(replace(face(happy), **face_changes),))


def window(**choice: Any) -> Open:
    """Return the window of a decision made of `BEFORE` and shown at once."""
    made = decided("v", T, loop(algorithm="uniform"), 0.2)
    made = replace(made, choice=replace(made.choice, **choice))
    record = Record("decisions", "v", T, made, 0)
    return Open(record, Shown("v.shown", made.choice.action_id, T, T))


def why(answer: FrameAnalyzed, of: Open | None = None) -> str | None:
    """Return the reason against a picture."""
    of = of or window()
    member = member_of(Record("analyses", "v", T + 9_000, answer, 1), BOX)
    return reason(of, member)


def moved(across: float, along: float = 0.0, grown: float = 1.0) -> Box:
    """Return the box before, its centre moved by shares of its size, then grown around it."""
    size = BOX.width * grown
    centre = BOX.left + BOX.width / 2 + across * BOX.width
    middle = BOX.top + BOX.height / 2 + along * BOX.height
    return Box(centre - size / 2, middle - size / 2, size, size)


def test_the_same_face_counts() -> None:
    assert why(post()) is None
    assert why(post(box=moved(0.3, 0.2, 1.2))) is None  # as far as the recordings go


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_face_that_jumped_farther_than_a_lean_is_another(sign: float) -> None:
    assert why(post(box=moved(sign * (MOVED_MAX - 0.01)))) is None
    assert why(post(box=moved(sign * (MOVED_MAX + 0.01)))) == "other_face"
    assert why(post(box=moved(0.0, sign * (MOVED_MAX - 0.01)))) is None
    assert why(post(box=moved(0.0, sign * (MOVED_MAX + 0.01)))) == "other_face"


def test_who_steps_up_to_the_kiosk_stays_the_same_and_who_is_three_times_as_near_does_not() -> None:
    # From 2 m to 70 cm, and a step aside of half the face it then is.
    assert why(post(box=moved(1.4, 0.5, 2.86))) is None
    assert why(post(box=moved(0.0, grown=GROWN_MAX + 0.01))) == "other_face"
    assert why(post(box=moved(0.0, grown=1 / (GROWN_MAX + 0.01)))) == "other_face"


def test_a_nearer_passer_by_is_not_the_visitor() -> None:
    passer_by = replace(face(0.95), box=Box(0.0, 0.0, 0.31, 0.31))
    answer = replace(post(0.1), faces=(replace(face(0.1), box=moved(1.3)), passer_by))
    assert why(answer) is None  # a head leaning into the picture: the boxes cannot tell
    tracked = replace(answer, tracked_box=moved(1.3))
    assert why(tracked) == "other_face"  # the tracker can
    far = replace(passer_by, box=Box(-0.18, 0.2, 0.31, 0.31))
    assert why(replace(answer, faces=(answer.faces[0], far))) == "other_face"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (post(None), "no_face"),
        (replace(post(None), status="failed"), "failed"),
        (replace(post(None), status="expired"), "expired"),
        (replace(post(None), status="refused"), "refused"),
        (post(confidence=0.3), "unsure_face"),
        (post(confidence=0.0), "no_face"),
        (post(quality=QUALITY_MIN), None),
        (post(quality=QUALITY_MIN - 0.001), "poor_picture"),
        (post(yaw_degrees=-61.0), "turned_away"),
        (post(yaw_degrees=60.0, pitch_degrees=-45.0), None),
        (post(pitch_degrees=46.0), "turned_away"),
        (post(at_ms=T + 499), "too_early"),
        (post(at_ms=T + 500), None),
    ],
)
def test_every_reason_has_a_name(answer: FrameAnalyzed, expected: str | None) -> None:
    assert why(answer) == expected


def test_a_picture_after_the_visit_does_not_count_and_is_named() -> None:
    gone = replace(window(), ended=Ended("v.ended", T + 1_999, ()))
    assert why(post(), gone) == "after_visit"
    assert why(post(at_ms=T + 1_999), gone) is None


def test_without_a_sure_face_before_no_reaction_can_be_told() -> None:
    assert why(post(), window(happiness_before=None)) == "unsure_before"
    assert why(post(), window(confidence_before=0.4)) == "unsure_before"


def test_an_explicit_reward_has_no_flaw() -> None:
    member = member_of(Record("rewards", "v", T, rewarded("v", 1, 0.5, T), 1), BOX)
    assert reason(window(confidence_before=0.4), member) is None


boxes = st.builds(
    Box, *[st.floats(-0.5, 1.0)] * 2, *[st.floats(0.01, 1.0)] * 2
)  # fmt: skip


@given(boxes, boxes)
def test_which_face_came_first_does_not_matter(one: Box, other: Box) -> None:
    assert jumped(one, other) == jumped(other, one)
    assert not jumped(one, one)


@given(boxes, st.floats(-0.5, 1.5), st.sampled_from(["left", "top", "width", "height"]))
def test_a_box_that_cannot_be_compared_has_jumped(box: Box, at: float, name: str) -> None:
    assert jumped(box, replace(box, **{name: float("nan")}))
    assert jumped(box, Box(at, at, 0.0, 0.3))
    assert jumped(box, Box(at, at, 0.3, 0.0))


@given(st.lists(st.sampled_from(["same", "other", "poor", "early"]), max_size=5))
def test_only_usable_pictures_make_the_reward(kinds: list[str]) -> None:
    changes: dict[str, dict[str, Any]] = {
        "same": {},
        "other": {"box": moved(2.0)},
        "poor": {"quality": 0.1},
        "early": {"at_ms": T + 100},
    }
    of = window()
    members = tuple(
        replace(
            member_of(
                Record("analyses", "v", T + 9_000, post(0.6 if kind == "same" else 1.0,
                                                        **changes[kind]), 1),
                BOX,
            ),
            id=f"v.post.{number}",
        )
        for number, kind in enumerate(kinds)
    )  # fmt: skip
    reward = observed(replace(of, members=members), of.decision.value)
    if "same" not in kinds:
        assert reward is None
    else:
        assert reward is not None
        assert reward.value == pytest.approx(0.4)
        assert len(reward.member_ids) == kinds.count("same")


def play(*answers: FrameAnalyzed) -> Alone:
    """Run the join over one visit that these pictures followed."""
    join = Alone("join")
    made = decided("v", T, loop(algorithm="uniform"), 0.2)
    join.at(0, "decisions", made)
    join.at(100, "impressions", shown("v", made.choice.action_id, T + 100))
    for answer in answers:
        join.at(answer.captured_at_ms - T + 50, "analyses", answer)
    join.at(4_000, "visits", ended("v", T + 3_900, len(answers)))
    join.until(9_000)
    return join


def test_in_the_loop_another_face_earns_the_default_and_the_visit_still_closes() -> None:
    outcome = play(post(0.9, box=moved(2.0))).outcome
    assert (outcome.result, outcome.source, outcome.reward) == ("defaulted", "default", 0.0)
    assert outcome.closed_by == "visit_end"
    assert play(post(0.9)).outcome.reward == pytest.approx(0.7)


def test_a_flaw_survives_a_restart_in_the_middle_of_the_window() -> None:
    join, of = Join(), window()
    bad = member_of(Record("analyses", "v", T + 9_000, post(0.9, box=moved(2.0)), 1), BOX)
    again = join.unpack(*join.pack(replace(of, members=(bad,))))
    assert isinstance(again, Open)
    assert reason(again, again.members[0]) == "other_face"


def test_a_window_packed_by_an_earlier_release_is_read() -> None:
    old = msgspec.msgpack.encode((None, None, [("v.post.1", "post", T + 2_000, 0.9, 0.9, False)]))
    again = Join().unpack(old, (window().decision,))
    assert isinstance(again, Open)
    assert again.members[0].flaw == ""
