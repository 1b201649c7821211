"""Outcomes enter in the order of their decisions, and wait for open ones."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

import worlds
from policies.evaluation.order import AfterWaiting, InOrder
from schemas.outcomes import OutcomeClosed

LIFE_MS = 1_000
_OUTCOME = worlds.outcome(worlds.decided("d", 0), 0.5)


def closed(decision_id: str, decided_ms: int = 0) -> OutcomeClosed:
    choice = replace(_OUTCOME.choice, decision_id=decision_id, decided_at_ms=decided_ms)
    return replace(_OUTCOME, choice=choice)


def ids(outcomes: object) -> list[str]:
    return [outcome.choice.decision_id for outcome in outcomes]  # type: ignore[attr-defined]


@given(st.permutations(range(8)), st.integers(0, 7))
def test_whatever_the_order_of_the_closes_the_order_out_is_that_of_the_decisions(
    closes: list[int], still_open: int
) -> None:
    order, out = InOrder(), []
    for number in range(8):
        order.decided(f"d{number}", LIFE_MS)
    for number in closes:
        if number != still_open:
            order.closed(closed(f"d{number}"))
        out += ids(order.ready())
    assert out == [f"d{number}" for number in range(still_open)]
    assert (order.open, order.behind) == (1, 7 - still_open)


def test_repeats_change_nothing_and_the_first_counts() -> None:
    order = InOrder()
    order.decided("a", LIFE_MS)
    order.decided("a", LIFE_MS)
    first = closed("a")
    order.closed(first)
    order.closed(replace(first, reward=0.25))
    assert list(order.ready()) == [first]
    order.closed(first)
    assert list(order.ready()) == []
    assert order.orphans == 0


def test_an_outcome_before_its_decision_waits_for_it() -> None:
    order = InOrder()
    order.closed(closed("a"))
    assert (list(order.ready()), order.orphans) == ([], 1)
    order.decided("a", LIFE_MS)
    assert ids(order.ready()) == ["a"]


def test_an_outcome_that_cannot_be_read_does_not_stop_the_rest_for_ever() -> None:
    order = InOrder(unreadable=1)
    for name in "abc":
        order.decided(name, LIFE_MS)
    order.closed(closed("b"))
    order.give_up(LIFE_MS + 1)
    # Two are overdue and one outcome was unreadable: the job is behind, so nobody is given up.
    assert ids(order.ready()) == []
    order.closed(closed("c"))
    order.give_up(LIFE_MS + 1)
    assert ids(order.ready()) == ["b", "c"]
    assert order.lost == 1


def test_what_is_not_overdue_is_waited_for() -> None:
    order = InOrder(unreadable=1)
    order.decided("a", LIFE_MS)
    order.give_up(LIFE_MS)
    assert (order.open, order.lost) == (1, 0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30, unique=True))
def test_with_outcomes_alone_each_waits_until_all_earlier_ones_must_have_closed(
    decided: list[int],
) -> None:
    # A late closer for every second one: it closes 40 after its decision, the others at once.
    wait_ms = 40
    order = AfterWaiting(wait_ms)
    closes = sorted((at + (wait_ms if at % 2 else 0), at) for at in decided)
    out = []
    for now, at in closes:
        order.closed(closed(f"{at:02d}", at))
        out += ids(order.ready(now))
    out += ids(order.ready(1_000))
    assert out == sorted(f"{at:02d}" for at in decided)
    assert order.overtaken == 0


def test_a_decision_that_entered_after_its_turn_is_left_out_and_counted() -> None:
    order = AfterWaiting(10)
    order.closed(closed("b", 20))
    assert ids(order.ready(31)) == ["b"]
    order.closed(closed("a", 5))
    assert (ids(order.ready(100)), order.overtaken) == ([], 1)
