"""The join's rules, one scenario each; numbered as in the architecture's "The join's rules".

The world's rules: a window of 5,000 ms from the impression on, grace 500 ms, a reaction counts
from 500 ms after the showing and from confidence 0.5 on, an id is remembered for 60,000 ms.
"""

from __future__ import annotations

from typing import Any

import pytest

from joining import Alone
from pipelines.join import MEMBERS_MAX, ORPHAN_WAIT_MS, ORPHANS_MAX
from schemas.decisions import DecisionMade, DecisionShown
from schemas.frames import FrameAnalyzed
from worlds import START_MS, analyzed, decided, ended, loop, rewarded, shown

T = START_MS


def decision(at_ms: int = 0, happy: float | None = 0.2, **rules: Any) -> DecisionMade:
    config = loop(algorithm="uniform", rules=rules)
    return decided("v", T + at_ms, config, happy)


def impression(made: DecisionMade, at_ms: int) -> DecisionShown:
    return shown("v", made.choice.action_id, T + at_ms)


def post(number: int, at_ms: int, happy: float | None = 0.8, confidence: float = 0.9) -> Any:
    answer: FrameAnalyzed = analyzed("v", "post", number, T + at_ms, happy, confidence)
    return answer


def opened(shown_at_ms: int = 100, *, watched: bool = True, **rules: Any) -> Alone:
    """Return a join whose window was opened by an impression."""
    join = Alone("join", watched=watched)
    made = decision(**rules)
    join.at(0, "decisions", made)
    join.at(shown_at_ms, "impressions", impression(made, shown_at_ms))
    return join


# Rule 1: where the window opens, and how long it lasts


def test_1_the_window_opens_at_the_impression() -> None:
    join = opened(shown_at_ms=3_000)
    join.at(8_000, "analyses", post(1, 8_000))  # 5,000 after the showing: the last that counts
    join.until(8_500)
    assert (join.outcome.closed_by, join.outcome.closed_at_ms) == ("deadline", T + 8_500)
    assert join.outcome.member_ids == ("v.post.1",)


def test_1_an_event_one_millisecond_beyond_the_window_is_late() -> None:
    join = opened(shown_at_ms=3_000)
    join.at(8_400, "analyses", post(1, 8_001))
    join.until(8_500)
    assert join.outcome.member_ids == ()
    assert join.aside("late") == [("analyses", "outside_window")]


def test_1_the_window_opens_at_the_decision_where_nothing_is_deferred() -> None:
    join = Alone("join")
    join.at(0, "decisions", decision(activation="at_decision"))
    join.at(5_500, "rewards", rewarded("v", 1, 0.5, T + 5_000))
    join.until(5_501)
    assert (join.outcome.result, join.outcome.reward) == ("rewarded", 0.5)
    assert join.outcome.closed_at_ms == T + 5_500


@pytest.mark.parametrize(("early_ms", "counts"), [(500, True), (501, False)])
def test_1_up_to_grace_early_counts(early_ms: int, counts: bool) -> None:
    join = opened(shown_at_ms=2_000)
    join.at(2_100, "rewards", rewarded("v", 1, 0.5, T + 2_000 - early_ms))
    join.until(7_500)
    assert (join.outcome.source == "explicit") is counts
    assert join.aside("late") == ([] if counts else [("rewards", "outside_window")])


def test_1_an_event_at_the_deadline_counts_and_one_after_it_is_late() -> None:
    join = opened(shown_at_ms=0)
    join.at(5_500, "rewards", rewarded("v", 1, 0.5, T + 4_000))
    join.at(5_501, "rewards", rewarded("v", 2, 0.9, T + 4_000))
    join.until(5_502)
    assert join.outcome.reward == 0.5
    assert join.aside("late") == [("rewards", "window_closed")]


def test_1_an_event_time_after_its_own_log_time_counts_as_the_log_time() -> None:
    join = opened(shown_at_ms=0)
    join.at(1_000, "rewards", rewarded("v", 1, 0.5, 4_102_444_800_000))  # the year 2100
    join.until(5_500)
    assert join.outcome.reward == 0.5


def test_1_an_event_of_1970_is_outside() -> None:
    join = opened(shown_at_ms=0)
    join.at(1_000, "rewards", rewarded("v", 1, 0.5, 0))
    join.until(5_500)
    assert join.outcome.result == "defaulted"
    assert join.aside("late") == [("rewards", "outside_window")]


# Rule 2: what closes it first


def test_2_it_closes_when_the_visit_ended_and_each_post_frame_has_its_answer() -> None:
    join = opened()
    join.at(1_000, "analyses", post(1, 1_000))
    join.at(2_000, "visits", ended("v", T + 2_000, posts=2))
    assert join.out("outcomes") == []
    join.at(2_300, "analyses", post(2, 1_900))
    join.until(2_301)
    assert (join.outcome.closed_by, join.outcome.closed_at_ms) == ("visit_end", T + 2_300)
    assert join.outcome.member_ids == ("v.post.1", "v.post.2")


def test_2_a_post_frame_without_a_face_has_its_answer_too() -> None:
    join = opened()
    join.at(2_000, "visits", ended("v", T + 2_000, posts=1))
    join.at(2_300, "analyses", post(1, 1_900, happy=None))
    join.until(2_301)
    assert (join.outcome.closed_by, join.outcome.result) == ("visit_end", "defaulted")


def test_2_it_closes_at_the_configured_number_of_usable_reactions() -> None:
    join = opened(closing_reactions=2)
    join.at(900, "analyses", post(1, 900))
    join.at(1_000, "analyses", post(2, 1_000, confidence=0.49))
    join.at(1_100, "rewards", rewarded("v", 1, 0.5, T + 1_100))
    join.until(1_101)
    assert (join.outcome.closed_by, join.outcome.closed_at_ms) == ("reactions", T + 1_100)


def test_2_a_final_reward_closes_at_once() -> None:
    join = opened()
    join.at(1_000, "rewards", rewarded("v", 1, 0.5, T + 1_000, final=True))
    join.until(1_001)
    assert (join.outcome.closed_by, join.outcome.closed_at_ms) == ("final_reward", T + 1_000)


def test_2_what_is_captured_after_the_end_of_the_visit_does_not_count() -> None:
    join = opened()
    join.at(2_000, "visits", ended("v", T + 2_000, posts=3))
    join.at(2_100, "analyses", post(1, 2_000, happy=0.9))
    join.at(2_200, "analyses", post(2, 2_001, happy=0.1))
    join.until(5_600)
    assert join.outcome.member_ids == ("v.post.1",)


def test_2_a_visit_that_ends_before_the_impression_was_never_activated() -> None:
    join = Alone("join")
    made = decision()
    join.at(0, "decisions", made)
    join.at(800, "visits", ended("v", T + 800))
    join.at(900, "impressions", impression(made, 850))
    join.until(901)
    assert (join.outcome.result, join.outcome.closed_by) == ("not_activated", "visit_end")
    assert join.outcome.result_reason == "left_before_impression"
    assert not join.outcome.learnable
    assert join.aside("late") == [("impressions", "window_closed")]


# Rule 3: what the reward is


def test_3_the_reward_is_happiness_after_weighted_by_confidence_minus_before() -> None:
    join = opened()
    join.at(1_000, "analyses", post(1, 1_000, happy=0.5, confidence=0.5))
    join.at(1_500, "analyses", post(2, 1_500, happy=1.0, confidence=1.0))
    join.until(5_600)
    after = (0.5 * 0.5 + 1.0 * 1.0) / 1.5
    assert join.outcome.happiness_after == after
    assert join.outcome.reward == after - 0.2
    assert join.outcome.precision == join.outcome.confidence_after == 0.75
    assert (join.outcome.result, join.outcome.source) == ("rewarded", "reaction")


@pytest.mark.parametrize(("after_showing_ms", "counts"), [(499, False), (500, True)])
def test_3_a_reaction_counts_from_the_reaction_delay_on(
    after_showing_ms: int, counts: bool
) -> None:
    join = opened(shown_at_ms=100)
    join.at(1_000, "analyses", post(1, 100 + after_showing_ms))
    join.until(5_600)
    assert join.outcome.member_ids == (("v.post.1",) if counts else ())


@pytest.mark.parametrize(("confidence", "counts"), [(0.499, False), (0.5, True)])
def test_3_a_face_is_usable_from_min_confidence_on(confidence: float, counts: bool) -> None:
    join = opened()
    join.at(1_000, "analyses", post(1, 1_000, confidence=confidence))
    join.until(5_600)
    assert (join.outcome.result == "rewarded") is counts


def test_3_explicit_rewards_come_before_faces() -> None:
    join = opened()
    join.at(1_000, "analyses", post(1, 1_000, happy=0.9))
    join.at(1_100, "rewards", rewarded("v", 1, -0.25, T + 1_100))
    join.until(5_600)
    assert (join.outcome.source, join.outcome.reward) == ("explicit", -0.25)


# Rule 4: nothing usable


@pytest.mark.parametrize(
    ("missing", "result", "learnable"),
    [("default", "defaulted", True), ("drop", "dropped", False)],
)
def test_4_nothing_usable_earns_the_default_or_is_dropped(
    missing: str, result: str, learnable: bool
) -> None:
    join = opened(missing=missing, default_reward=-0.125)
    join.at(1_000, "analyses", post(1, 1_000, happy=None))
    join.until(5_600)
    assert (join.outcome.result, join.outcome.result_reason) == (result, "nothing_usable")
    assert (join.outcome.source, join.outcome.reward) == ("default", -0.125)
    assert join.outcome.learnable is learnable


# Rule 5: no impression


def test_5_without_an_impression_it_is_not_activated_even_if_rewarded() -> None:
    join = Alone("join")
    join.at(0, "decisions", decision())
    join.at(1_000, "rewards", rewarded("v", 1, 1.0, T + 1_000))
    join.until(5_500)
    assert (join.outcome.result, join.outcome.result_reason) == ("not_activated", "no_impression")
    assert join.outcome.closed_at_ms == T + 5_500
    assert not join.outcome.learnable
    assert join.aside("late") == [("rewards", "not_activated")]


def test_5_the_impression_may_come_until_window_and_grace_have_passed() -> None:
    join = Alone("join")
    made = decision()
    join.at(0, "decisions", made)
    join.at(5_500, "impressions", impression(made, 5_000))
    join.at(9_000, "analyses", post(1, 9_000))
    join.until(11_000)
    assert (join.outcome.result, join.outcome.closed_at_ms) == ("rewarded", T + 11_000)


def test_5_a_reaction_before_the_impression_waits_for_it() -> None:
    join = Alone("join")
    made = decision()
    join.at(0, "decisions", made)
    join.at(1_500, "analyses", post(1, 1_400))
    join.at(1_600, "impressions", impression(made, 300))
    join.until(7_100)
    assert join.outcome.member_ids == ("v.post.1",)


# Rule 6: before the decision, after the close


def test_6_events_before_their_decision_wait_for_it() -> None:
    join = Alone("join")
    made = decision(2_000)
    join.at(1_600, "impressions", impression(made, 1_600))
    join.at(1_700, "rewards", rewarded("v", 1, 0.5, T + 1_700))
    join.at(2_000, "decisions", made)
    join.until(7_100)
    assert join.outcome.reward == 0.5
    # The window's deadline counts from the impression's own log time.
    assert join.outcome.closed_at_ms == T + 7_100


def test_6_an_orphan_goes_to_unmatched_after_its_wait() -> None:
    join = Alone("join")
    join.at(0, "rewards", rewarded("v", 1, 0.5, T))
    join.until(ORPHAN_WAIT_MS - 1)
    assert join.aside("unmatched") == []
    join.until(ORPHAN_WAIT_MS)
    assert join.aside("unmatched") == [("rewards", "no_decision")]
    assert join.remembered == {"join": 0}


def test_6_each_orphan_waits_for_itself() -> None:
    join = Alone("join")
    join.at(0, "rewards", rewarded("v", 1, 0.5, T))
    join.at(100, "rewards", rewarded("v", 2, 0.75, T))
    join.until(ORPHAN_WAIT_MS)
    assert len(join.aside("unmatched")) == 1
    join.at(ORPHAN_WAIT_MS + 1, "decisions", decision(100, activation="at_decision"))
    join.until(ORPHAN_WAIT_MS + 6_000)
    assert join.outcome.member_ids == ("v.reward.2",)


def test_6_at_most_32_events_wait_for_one_decision() -> None:
    join = Alone("join")
    for number in range(ORPHANS_MAX + 2):
        join.at(number, "rewards", rewarded("v", number, 0.5, T))
    join.until(100)
    assert join.aside("unmatched") == [("rewards", "too_many_orphans")] * 2


def test_6_pre_analyses_are_no_business_of_the_join() -> None:
    join = Alone("join")
    join.at(0, "analyses", analyzed("v", "pre", 0, T, 0.9))
    join.until(ORPHAN_WAIT_MS)
    assert [record for record in join.engine.log if record.stream in ("late", "unmatched")] == []
    assert join.remembered == {"join": 0}


def test_6_after_the_close_everything_is_late_and_nothing_learned_again() -> None:
    join = opened()
    join.at(1_000, "rewards", rewarded("v", 1, 0.5, T + 1_000, final=True))
    join.at(1_001, "rewards", rewarded("v", 2, 0.9, T + 1_001, final=True))
    join.at(1_002, "visits", ended("v", T + 1_002))
    join.until(59_000)
    assert join.outcome.reward == 0.5
    assert join.aside("late") == [("rewards", "window_closed"), ("visits", "window_closed")]


def test_6_a_decision_takes_a_bounded_number_of_reactions() -> None:
    join = opened(watched=False)
    for number in range(MEMBERS_MAX + 1):
        join.at(1_000, "rewards", rewarded("v", number, 0.5, T + 1_000))
    join.until(5_600)
    assert len(join.outcome.member_ids) == MEMBERS_MAX
    assert join.aside("late") == [("rewards", "too_many")]


# Rule 7: repeats


def test_7_a_repeat_changes_nothing() -> None:
    once, twice = Alone("join"), Alone("join")
    made = decision()
    script: list[tuple[int, str, Any]] = [
        (0, "decisions", made),
        (100, "impressions", impression(made, 100)),
        (1_000, "analyses", post(1, 1_000)),
        (1_100, "rewards", rewarded("v", 1, 0.5, T + 1_100)),
        (1_200, "visits", ended("v", T + 1_200, posts=2)),
        (1_300, "analyses", post(2, 1_150)),
    ]
    for at_ms, stream, value in script:
        once.at(at_ms, stream, value)
        for _ in range(3 if value is not script[-1][2] else 1):
            twice.at(at_ms, stream, value)
    once.until(70_000)
    twice.until(70_000)
    assert twice.outcome == once.outcome
    assert twice.aside("late") == once.aside("late") == []


def test_7_a_second_impression_with_another_action_changes_nothing() -> None:
    join = opened()
    join.at(200, "impressions", shown("v", "another", T + 200, event_id="v.shown.2"))
    join.until(5_600)
    assert join.outcome.result == "defaulted"
    assert join.out("alarms") == []


def test_7_a_decision_older_than_the_horizon_is_late_and_never_opened() -> None:
    join = Alone("join")
    join.at(60_001, "decisions", decision(0))
    join.until(140_000)
    assert join.aside("late") == [("decisions", "decision_too_old")]
    assert join.out("outcomes") == []


def test_7_a_decision_as_old_as_the_horizon_is_opened() -> None:
    join = Alone("join")
    join.at(60_000, "decisions", decision(0))
    join.until(65_500)
    assert join.outcome.closed_at_ms == T + 65_500


def test_7_the_tombstone_stays_until_log_time_passes_the_horizon() -> None:
    join = Alone("join")
    made = decision()
    join.at(0, "decisions", made)
    join.at(60_000, "decisions", made)
    join.at(60_000, "rewards", rewarded("v", 1, 0.5, T + 100))
    join.at(60_001, "rewards", rewarded("v", 2, 0.5, T + 100))
    join.until(60_001 + ORPHAN_WAIT_MS)
    assert join.outcome.result == "not_activated"
    assert join.aside("late") == [("rewards", "window_closed")]
    assert join.aside("unmatched") == [("rewards", "no_decision")]
    assert join.remembered == {"join": 0}


def test_7_a_repeat_at_the_very_end_of_the_horizon_makes_no_second_outcome() -> None:
    join = Alone("join")
    join.at(59_000, "visits", ended("v", T + 100))
    made = decision()
    for _ in range(2):  # the visit end that waited closes the first one at once
        join.at(60_000, "decisions", made)
    join.until(140_000)
    assert join.outcome.result == "not_activated"
    assert join.remembered == {"join": 0}


# Rule 8: each decision counts once


def test_8_another_greeting_than_the_chosen_one_is_dropped_and_alarmed() -> None:
    join = Alone("join")
    made = decision()
    join.at(0, "decisions", made)
    join.at(100, "impressions", shown("v", "another", T + 100))
    join.at(1_000, "rewards", rewarded("v", 1, 0.5, T + 1_000, final=True))
    join.until(1_001)
    assert (join.outcome.result, join.outcome.result_reason) == ("dropped", "shown_other")
    assert join.outcome.shown_action_id == "another"
    assert not join.outcome.learnable
    (alarm,) = join.out("alarms")
    assert (alarm.kind, alarm.alarm_id) == ("shown_other", "v.shown_other")


def test_8_a_fallback_is_dropped_whatever_follows() -> None:
    join = Alone("join")
    made = decision(happy=None)
    assert made.choice.mode == "fallback"
    join.at(0, "decisions", made)
    join.at(100, "impressions", impression(made, 100))
    join.at(1_000, "rewards", rewarded("v", 1, 0.5, T + 1_000, final=True))
    join.until(1_001)
    assert (join.outcome.result, join.outcome.result_reason) == ("dropped", "fallback")
    assert not join.outcome.learnable


def test_8_the_same_log_time_is_taken_in_the_order_of_the_streams() -> None:
    join = Alone("join")
    made = decision()
    join.at(0, "visits", ended("v", T, posts=1))
    join.at(0, "rewards", rewarded("v", 1, 0.5, T))
    join.at(0, "impressions", impression(made, 0))
    join.at(0, "decisions", made)
    join.until(6_000)
    assert (join.outcome.result, join.outcome.reward) == ("rewarded", 0.5)


def test_7_a_tombstone_that_would_end_with_the_window_is_not_made() -> None:
    join = Alone("join")
    join.at(54_500, "decisions", decision(0))  # its deadline is the end of the horizon
    join.until(60_000)
    assert join.outcome.closed_at_ms == T + 60_000
    assert join.remembered == {"join": 0}


def test_6_an_impression_that_waited_may_leave_no_time_at_all() -> None:
    join = Alone("join")
    made = decision(1_500)
    join.at(1_000, "impressions", impression(made, 1_000))
    join.at(1_000, "rewards", rewarded("v", 1, 0.5, T + 1_000))
    join.at(6_501, "rewards", rewarded("v", 2, 0.9, T + 2_000))
    join.at(6_502, "decisions", made)
    join.until(6_503)
    assert (join.outcome.member_ids, join.outcome.closed_by) == (("v.reward.1",), "deadline")
    assert join.outcome.closed_at_ms == T + 6_502, "it cannot close before it was opened"
    assert join.aside("late") == [("rewards", "window_closed")]


def test_6_at_the_deadline_an_impression_that_waited_still_lets_events_count() -> None:
    join = Alone("join")
    made = decision(1_500)
    join.at(1_000, "impressions", impression(made, 1_000))
    join.at(6_500, "rewards", rewarded("v", 1, 0.5, T + 2_000))
    join.at(6_500, "decisions", made)
    join.at(6_500, "rewards", rewarded("v", 2, 0.75, T + 2_000))
    join.until(6_500)
    assert join.outcome.member_ids == ("v.reward.1", "v.reward.2")
