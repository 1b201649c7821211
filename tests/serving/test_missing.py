"""Missing reactions: which greeting loses clearly more of them than the others."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from serving.ledger import Ledger
from serving.missing import difference, missing_rates
from serving.report import Report, show


def showings(**counts: tuple[int, int]) -> list[tuple[str, bool]]:
    """Return showings: by greeting how many are missing of how many."""
    return [
        (name, place < missing)
        for name, (missing, shown) in counts.items()
        for place in range(shown)
    ]


def test_a_greeting_that_loses_clearly_more_raises_an_alarm_and_the_others_do_not() -> None:
    rates = {r.action_id: r for r in missing_rates(showings(a=(30, 100), b=(5, 100), c=(6, 100)))}
    assert (rates["a"].share, rates["a"].others_share) == (0.3, 11 / 200)
    assert [name for name, rate in rates.items() if rate.alarm and rate.low > 0] == ["a"]


def test_the_report_names_the_greeting_behind_an_alarm() -> None:
    page = io.StringIO()
    rates = missing_rates(showings(joke=(30, 100), thanks=(5, 100), welcome=(6, 100)))
    show(Report(Ledger(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, True), (), (), 0, None, "folder", rates),
         Console(file=page, width=120))  # fmt: skip
    assert "41 of 300 greetings; joke 30%, the others 6%" in page.getvalue()


def test_few_showings_raise_no_alarm() -> None:
    assert not any(rate.alarm for rate in missing_rates(showings(a=(2, 4), b=(1, 10))))
    (alone,) = missing_rates(showings(a=(5, 10)))
    assert (alone.alarm, alone.low, alone.high) == (False, -1.0, 1.0)
    assert missing_rates([]) == ()


def test_quiet_greetings_raise_an_alarm_in_one_report_of_twenty_at_most() -> None:
    generator = np.random.default_rng(1)
    alarms = 0
    for _ in range(400):
        counts = {f"g{i}": (int(generator.binomial(60, 0.07)), 60) for i in range(8)}
        alarms += any(rate.alarm for rate in missing_rates(showings(**counts)))
    assert alarms <= 0.05 * 400 + 3 * (0.05 * 0.95 * 400) ** 0.5


def test_the_interval_is_that_of_agresti_and_caffo() -> None:
    # 7 of 8 against 1 of 8: their paper (2000) adds one of each, so 8/10 - 2/10 +- z * .17889.
    low, high = difference((7, 8), (1, 8), 1.96)
    assert (low + high) / 2 == pytest.approx(0.6)
    assert high - low == pytest.approx(2 * 1.96 * (2 * 0.16 / 10) ** 0.5)


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
        min_size=1,
    )
)
def test_shares_and_intervals_stay_in_range_and_counts_add_up(
    counts: dict[str, tuple[int, int]],
) -> None:
    rates = missing_rates(showings(**counts))
    assert {r.action_id: (r.missing, r.shown) for r in rates} == counts
    for rate in rates:
        assert -1.0 <= rate.low <= rate.high <= 1.0
        assert 0.0 <= rate.share <= 1.0
