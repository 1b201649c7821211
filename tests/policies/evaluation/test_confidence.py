"""The bound is the one of the papers, fails as often as it may, and needs three numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from policies.evaluation.confidence import LowerBound, boundary, log_wealth, mixture_rate

RHO = mixture_rate(200.0)


@pytest.mark.parametrize(("excess", "variance"), [(0.0, 1.0), (5.0, 10.0), (80.0, 500.0)])
@pytest.mark.parametrize("rho", [RHO, mixture_rate(20.0)])
def test_the_wealth_is_the_mixture_over_all_rates(
    excess: float, variance: float, rho: float
) -> None:
    def density(rate: float) -> float:
        return math.exp((rho - 1.0) * math.log1p(-rate) + rho * rate)

    def wealth(rate: float) -> float:
        return math.exp(rate * excess + variance * (math.log1p(-rate) + rate))

    peak = [excess / (excess + variance + rho)]
    whole, _ = quad(density, 0.0, 1.0)
    mixed, _ = quad(lambda rate: density(rate) * wealth(rate), 0.0, 1.0, points=peak, limit=200)
    assert log_wealth(excess, variance, rho) == pytest.approx(math.log(mixed / whole), abs=1e-8)


@given(st.floats(0.0, 1e6), st.sampled_from([0.5, 0.05, 0.001, 1e-6]))
def test_at_the_boundary_the_wealth_is_one_over_alpha(variance: float, alpha: float) -> None:
    reached = log_wealth(boundary(variance, alpha, RHO), variance, RHO)
    assert reached == pytest.approx(math.log(1.0 / alpha), abs=1e-6)


@given(
    st.lists(st.floats(-2.0, 40.0), min_size=1, max_size=40),
    st.floats(0.001, 0.5),
)
def test_streams_side_by_side_have_the_bounds_they_have_alone(
    values: list[float], alpha: float
) -> None:
    alone, beside = LowerBound(-2.0), LowerBound(-2.0)
    for value in values:
        alone.take(value)
        beside.take(np.array([value, 0.0]))
    assert beside.low(alpha)[0] == pytest.approx(alone.low(alpha), abs=1e-9)
    assert alone.low(alpha) <= alone.mean()


def test_a_bound_goes_on_from_its_numbers() -> None:
    whole, first = LowerBound(-1.0), LowerBound(-1.0)
    for step in range(50):
        whole.take(step % 3 - 0.5)
        if step < 20:
            first.take(step % 3 - 0.5)
    rest = LowerBound(-1.0, 1.0, first.rho, first.count, first.total, first.variance)
    for step in range(20, 50):
        rest.take(step % 3 - 0.5)
    assert rest.low(0.05) == whole.low(0.05)


def test_the_guess_is_made_by_the_past_alone() -> None:
    low, high = LowerBound(0.0), LowerBound(0.0)
    low.take(0.0)
    high.take(1.0)
    # Both were guessed at a half: a guess that knew the value would have found no variance.
    assert low.variance == high.variance == 0.25


def test_a_mean_at_the_edge_of_the_bound_is_wrongly_excluded_nearly_as_often_as_allowed() -> None:
    # Fair coins, watched 1,500 times: the bound must not be so wide that it never fails.
    chance = np.random.default_rng(3)
    bound = LowerBound(0.0, rho=mixture_rate(50.0))
    failed = np.zeros(1_000, dtype=bool)
    for _ in range(1_500):
        bound.take((chance.random(1_000) < 0.5).astype(float))
        excess = bound.total - bound.count * 0.5
        failed |= log_wealth(excess, bound.variance, bound.rho) >= math.log(1.0 / 0.2)
    assert 0.03 < failed.mean() <= 0.2


def test_before_the_first_value_nothing_is_known() -> None:
    assert LowerBound(-2.0).low(0.05) == -2.0
    assert LowerBound(-2.0).mean() == 0.5
