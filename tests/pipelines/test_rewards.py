"""From reactions to one reward: order, aggregation, clipping."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.operators import Record
from pipelines.rewards import close, observed
from pipelines.windows import Member, Open, Shown
from schemas.outcomes import OutcomeClosed
from worlds import START_MS, decided, loop

T = START_MS


def window(members: list[Member], confidence: float = 0.9, **rules: Any) -> Open:
    made = decided("v", T, loop(algorithm="uniform", rules=rules), 0.2, confidence)
    record = Record("decisions", "v", T, made, 0)
    shown = Shown("v.shown", made.choice.action_id, T, T)
    return Open(record, shown, members=tuple(members))


def closed(members: list[Member], **rules: Any) -> OutcomeClosed:
    return close(window(members, **rules), "deadline", T + 5_500)


def explicit(*values: float) -> list[Member]:
    return [Member(f"r{i}", "reward", T + i, value, 1.0) for i, value in enumerate(values)]


_faces = st.lists(
    st.builds(
        Member,
        id=st.text("abc", min_size=1, max_size=3),
        kind=st.just("post"),
        at_ms=st.integers(T + 500, T + 504),
        value=st.floats(0.0, 1.0),
        confidence=st.floats(0.5, 1.0),
    ),
    min_size=2,
    max_size=8,
    unique_by=lambda member: member.id,
)


@settings(max_examples=200)
@given(_faces, st.data())
def test_reactions_add_up_to_the_same_bits_in_whatever_order_they_came(
    members: list[Member], data: st.DataObject
) -> None:
    other = data.draw(st.permutations(members))
    assert closed(members) == closed(other)


def test_reactions_count_in_the_order_of_capture_then_of_their_ids() -> None:
    later = Member("a", "post", T + 900, 0.9, 0.9)
    second = Member("b2", "post", T + 800, 0.8, 0.9)
    first = Member("b1", "post", T + 800, 0.7, 0.9)
    assert closed([later, second, first]).member_ids == ("b1", "b2", "a")


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("earliest", -0.5),
        ("latest", -0.75),
        ("sum", -1.5),
        ("mean", -0.5),
        ("max", -0.25),
        ("min", -0.75),
    ],
)
def test_several_explicit_rewards_become_one(aggregation: str, expected: float) -> None:
    members = explicit(-0.5, -0.25, -0.75)
    outcome = closed(members[::-1], aggregation=aggregation, reward_low=-2.0)
    assert outcome.reward == expected
    assert outcome.member_ids == ("r0", "r1", "r2")
    assert (outcome.source, outcome.precision) == ("explicit", 1.0)


def test_the_smallest_of_positive_rewards_is_no_zero() -> None:
    assert closed(explicit(0.5, 0.75), aggregation="min").reward == 0.5


@pytest.mark.parametrize(
    ("value", "reward", "clipped"),
    [(1.5, 1.0, True), (-1.5, -1.0, True), (1.0, 1.0, False), (-1.0, -1.0, False)],
)
def test_a_reward_outside_the_range_is_clipped_and_marked(
    value: float, reward: float, clipped: bool
) -> None:
    outcome = closed(explicit(value))
    assert (outcome.reward_raw, outcome.reward, outcome.clipped) == (value, reward, clipped)


def test_a_sum_is_clipped_after_it_is_added_up() -> None:
    outcome = closed(explicit(0.75, 0.75, -0.75), aggregation="sum")
    assert (outcome.reward_raw, outcome.clipped) == (0.75, False)


def test_a_decision_whose_own_face_was_unsure_has_no_reaction() -> None:
    face = Member("a", "post", T + 900, 0.9, 0.9)
    unsure = window([face], confidence=0.4)
    assert observed(unsure, unsure.decision.value) is None
    assert close(unsure, "deadline", T).result == "defaulted"


def test_the_precision_is_the_smaller_confidence() -> None:
    assert closed([Member("a", "post", T + 900, 0.9, 0.6)]).precision == 0.6
    assert closed([Member("a", "post", T + 900, 0.9, 1.0)]).precision == 0.9
