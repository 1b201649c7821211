"""Rows are pure functions of records: nothing hangs on the order in which streams are read."""

from __future__ import annotations

import dataclasses
import math
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.tables_daily import daily_rows
from connectors.tables_rows import (
    Visit,
    as_dict,
    day_of,
    decision_row,
    is_late,
    outcome_row,
    together,
    visit_ended,
    visit_of,
    visit_row,
    visit_seen,
)
from connectors.tables_schema import DECISIONS, GREETINGS_DAILY, OUTCOMES, VISITS
from connectors.tables_sql import time_text
from connectors.tables_sqlite import time_of
from worlds import START_MS, analyzed, decided, ended, outcome

TIMES = st.integers(0, 253_402_300_799_999)


def visit_parts() -> list[Visit]:
    first = analyzed(
        "v1", "pre", 0, START_MS, 0.2, language="de", utc_offset_minutes=-480, notice="posted"
    )
    later = analyzed("v1", "post", 2, START_MS + 3_000, 0.8, utc_offset_minutes=-480)
    end = ended("v1", START_MS + 5_000, 2)
    return [visit_seen(first), visit_seen(later), visit_ended(end)]


def test_a_visit_is_the_same_in_whatever_order_its_streams_are_read() -> None:
    rows = set()
    for order in permutations(visit_parts()):
        visit = order[0]
        for more in order[1:]:
            visit = together(visit, more)
        rows.add(visit_row(together(visit, order[0])))
    (row,) = rows
    told = as_dict(VISITS, row)
    assert told["started_at"] == START_MS
    assert told["duration_ms"] == 5_000
    assert told["pictures"] == 3
    assert (told["answer"], told["language"], told["notice"]) == ("ok", "de", "posted")
    # 08:00 UTC, eight hours before it.
    assert (told["day"], told["local_day"], told["local_hour"]) == ("2026-01-05", "2026-01-05", 0)


def test_a_visit_that_began_before_midnight_belongs_to_the_day_it_began() -> None:
    midnight_ms = START_MS // 86_400_000 * 86_400_000
    early = visit_seen(analyzed("v1", "pre", 0, midnight_ms - 1, 0.2))
    late = visit_seen(analyzed("v1", "post", 1, midnight_ms + 1, 0.2))
    assert as_dict(VISITS, visit_row(late))["day"] == "2026-01-05"
    assert as_dict(VISITS, visit_row(together(late, early)))["day"] == "2026-01-04"


@given(st.lists(st.sampled_from(visit_parts()), min_size=1, max_size=6))
def test_a_row_says_all_that_is_known_of_a_visit(parts: list[Visit]) -> None:
    visit = parts[0]
    for more in parts[1:]:
        visit = together(visit, more)
    assert visit_of(visit_row(visit)) == visit


def test_an_answer_with_two_values_counts_as_the_first_said() -> None:
    ok = visit_seen(analyzed("v1", "pre", 0, START_MS, 0.2))
    again = visit_seen(analyzed("v1", "pre", 0, START_MS, None))
    assert together(ok, again).answer == "ok"
    assert together(again, ok).answer == "no_face"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_databases_keep_differently_is_made_the_same(value: float) -> None:
    made = decided("v1", START_MS, happiness_before=value)
    assert as_dict(DECISIONS, decision_row(made))["happiness_before"] is None
    said = dataclasses.replace(made.presentation, text="a\0b")
    text = as_dict(DECISIONS, decision_row(dataclasses.replace(made, presentation=said)))
    assert text["greeting_text"] == "a\ufffdb"


def test_a_time_no_database_has_is_none() -> None:
    closed = outcome(decided("v1", START_MS), 0.5, shown_at_ms=2**62)
    told = as_dict(OUTCOMES, outcome_row(closed))
    assert told["shown_at"] is None
    assert told["shown_after_ms"] is None
    assert told["closed_at"] == START_MS


def test_a_decision_after_its_horizon_is_none() -> None:
    made = decided("v1", START_MS)
    last_ms = START_MS + made.rules.dedup_horizon_ms
    assert not is_late(made, last_ms)
    assert is_late(made, last_ms + 1)


def test_rows_have_a_value_for_each_column() -> None:
    made = decided("v1", START_MS, happy=0.25)
    told = as_dict(DECISIONS, decision_row(made))
    choice = made.choice
    assert told["decision_id"] == "v1"
    assert told["propensity"] == choice.propensity_ppb / 1e9
    assert told["action_id"] == choice.action_id
    assert told["eligible"] == 3
    assert told["happiness_before"] == 0.25
    earned: dict[str, Any] = as_dict(OUTCOMES, outcome_row(outcome(made, -0.5, START_MS + 9)))
    assert (earned["reward"], earned["closed_at"], earned["day"]) == (
        -0.5,
        START_MS + 9,
        "2026-01-05",
    )


@given(TIMES)
def test_a_time_comes_back_from_its_text(time_ms: int) -> None:
    text = time_text(time_ms)
    assert time_of(text) == time_ms
    assert text[:10] == day_of(time_ms)


@given(TIMES, TIMES)
def test_texts_of_times_sort_as_times_do(one: int, other: int) -> None:
    assert (time_text(one) < time_text(other)) == (one < other)


@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_sums_of_a_day_do_not_hang_on_the_order_of_its_rows(
    rewards: list[float], chance: Any
) -> None:
    rows = [("greeting", "a0", 0, "rewarded", 1, reward, 0.5, 0.25) for reward in rewards]
    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert daily_rows("2026-01-05", rows) == daily_rows("2026-01-05", shuffled)


def test_a_day_counts_each_result_and_only_what_was_earned() -> None:
    counted: list[Any] = [
        ("greeting", "a0", False, "rewarded", True, 0.5, 0.25, 0.75),
        ("greeting", "a0", False, "defaulted", True, 0.0, 0.25, None),
        ("greeting", "a0", False, "dropped", True, -1.0, 0.5, 0.5),
        ("greeting", "a0", False, "not_activated", False, 0.75, None, None),
        ("greeting", "a0", False, None, False, None, None, None),
        ("greeting", "a0", True, "rewarded", True, -0.25, None, None),
    ]
    learned, control = (as_dict(GREETINGS_DAILY, row) for row in daily_rows("d", counted))
    assert learned | {"reward_sum": 0.5, "reward_mean": 0.25, "decisions": 5} == learned
    names = ("shown", "rewarded", "defaulted", "dropped", "not_activated", "still_open")
    assert [learned[name] for name in names] == [3, 1, 1, 1, 1, 1]
    happy = ("happiness_count", "happiness_before_sum", "happiness_after_sum")
    assert [learned[name] for name in happy] == [1, 0.25, 0.75]
    assert (control["control"], control["reward_square_sum"]) == (True, 0.0625)
