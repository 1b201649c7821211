from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import ndtr

from policies import thompson_probabilities
from policies.thompson_batches import best_probabilities_many
from policies.thompson_probabilities import best_probabilities
from schemas.errors import UsageError

Vector = NDArray[np.float64]


def by_adaptive_quadrature(mean: Vector, deviation: Vector) -> Vector:
    """Integrate each probability on its own, by scipy, with all borders named."""
    result = np.zeros(len(mean))
    for i, (m, s) in enumerate(zip(mean, deviation, strict=True)):

        def integrand(z: float, i: int = i, m: float = m, s: float = s) -> float:
            below = ndtr((m + s * z - mean) / deviation)
            return math.exp(-0.5 * z * z) * float(np.delete(below, i).prod())

        borders = ((mean + np.array((-3.0, 0.0, 3.0))[:, None] * deviation - m) / s).ravel()
        points = np.unique(borders[np.abs(borders) < 8.0])
        result[i] = quad(integrand, -8.0, 8.0, points=points, limit=400)[0]
    return result / math.sqrt(2.0 * math.pi)


def by_many_cells(mean: Vector, deviation: Vector) -> Vector:
    """Integrate all at once with 6-point Gauss-Legendre between 52 borders of each Gaussian."""
    nodes, weights = np.polynomial.legendre.leggauss(6)
    borders = np.unique((mean + np.linspace(-8.5, 8.5, 52)[:, None] * deviation).ravel())
    half, centre = np.diff(borders)[:, None] / 2, (borders[1:, None] + borders[:-1, None]) / 2
    x, w = (centre + half * nodes).ravel(), (half * weights).ravel()
    z = (x - mean[:, None]) / deviation[:, None]
    below, density = ndtr(z), np.exp(-0.5 * z * z) / deviation[:, None]
    parts = [(w * density[i] * np.delete(below, i, 0).prod(axis=0)).sum() for i in range(len(mean))]
    return np.array(parts) / math.sqrt(2.0 * math.pi)


@pytest.mark.parametrize("n", [2, 3, 8, 12])
@pytest.mark.parametrize("decades", [0.0, 1.0, 3.0])
def test_agrees_with_adaptive_quadrature(n: int, decades: float) -> None:
    rng = np.random.default_rng(n)
    mean, deviation = rng.normal(0.0, 0.3, n), 10.0 ** rng.uniform(-decades, 0.0, n)
    expected = by_adaptive_quadrature(mean, deviation)
    assert best_probabilities(mean, deviation) == pytest.approx(expected, abs=1e-4)


def test_agrees_with_a_finer_integral_for_2_to_50_arms_a_thousandfold_apart() -> None:
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(100):
        n = int(rng.integers(2, 51))
        deviation = 10.0 ** rng.uniform(-float(rng.choice((0, 1, 3, 4))), 0.0, n)
        mean = rng.normal(0.0, 10.0 ** rng.uniform(-3.0, 0.5), n)
        expected = by_many_cells(mean, deviation)
        assert expected.sum() == pytest.approx(1.0, abs=1e-6)
        worst = max(worst, float(np.abs(best_probabilities(mean, deviation) - expected).max()))
    assert worst < 2e-5


def test_agrees_with_simulation() -> None:
    rng = np.random.default_rng(3)
    mean, deviation = np.array((0.0, 0.1, -0.5, 0.05)), np.array((0.2, 0.01, 1.0, 0.1))
    n = 400_000
    best = (mean + deviation * rng.normal(size=(n, 4))).argmax(axis=1)
    seen = np.bincount(best, minlength=4) / n
    assert best_probabilities(mean, deviation) == pytest.approx(seen, abs=4.5 * 0.5 / math.sqrt(n))


@pytest.mark.parametrize("n", [2, 3, 50])
def test_equals_share_alike_and_all_adds_up(n: int) -> None:
    p = best_probabilities([0.5] * n, [0.1] * n)
    assert p == pytest.approx([1 / n] * n, abs=1e-12)
    assert p.sum() == pytest.approx(1.0, abs=1e-14)


def test_values_far_from_zero_keep_their_digits() -> None:
    mean, deviation = np.array((0.0, 1e-6, 2e-6)), np.array((1e-6, 2e-6, 1e-6))
    near, far = best_probabilities(mean, deviation), best_probabilities(mean + 8.0, deviation)
    assert far == pytest.approx(near, abs=1e-6)


def test_a_hopeless_arm_has_no_chance() -> None:
    assert best_probabilities([0.0, -1e9, 1.0], [0.1, 1.0, 0.1])[1] == 0.0
    assert best_probabilities([0.0, 1e9], [1.0, 1.0]).tolist() == [0.0, 1.0]


def test_certain_values_are_compared_as_they_are() -> None:
    assert best_probabilities([0.3], [0.0]).tolist() == [1.0]
    assert best_probabilities([0.1, 0.2, 0.2], [0.0] * 3).tolist() == [0.0, 0.5, 0.5]
    assert best_probabilities([0.0, 0.0], [0.0, 1.0]) == pytest.approx([0.5, 0.5], abs=1e-6)


def test_a_certain_value_is_a_lower_limit_for_the_others() -> None:
    mean, deviation = np.array((0.2, 0.0, 0.1, 0.05)), np.array((0.0, 1.0, 0.1, 0.0))
    none_above = float(ndtr(0.2) * ndtr(1.0))
    almost = by_many_cells(mean[:3], np.array((1e-7, 1.0, 0.1)))
    p = best_probabilities(mean, deviation)
    assert p[0] == pytest.approx(none_above, abs=1e-6)
    assert p == pytest.approx([*almost, 0.0], abs=1e-4)


def test_certain_values_that_tie_share_what_the_others_leave() -> None:
    p = best_probabilities([0.2, 0.2, 0.0], [0.0, 0.0, 1.0])
    left = float(ndtr(0.2))
    assert p == pytest.approx([left / 2, left / 2, 1.0 - left], abs=1e-6)


@pytest.mark.parametrize("tiny", [1e-6, 1e-8, 1e-9, 1e-10, 1e-300, 0.0])
def test_nothing_jumps_where_a_deviation_becomes_a_point(tiny: float) -> None:
    p = best_probabilities([0.2, 0.0, 0.1], [tiny, 1.0, 0.1])
    assert p[0] == pytest.approx(float(ndtr(0.2) * ndtr(1.0)), abs=1e-5)


@pytest.mark.parametrize(
    ("mean", "deviation"),
    [([], []), ([math.nan, 0.0], [1.0, 1.0]), ([0.0], [-1.0]), ([0.0, 0.0], [1.0, math.inf])],
)
def test_impossible_gaussians_are_refused(mean: list[float], deviation: list[float]) -> None:
    with pytest.raises(UsageError):
        best_probabilities(mean, deviation)


def test_fifty_that_are_nearly_alike_are_told_apart() -> None:
    rng = np.random.default_rng(6)
    mean, deviation = rng.normal(0.0, 0.05, 50), np.full(50, 1.0)
    assert best_probabilities(mean, deviation) == pytest.approx(
        by_many_cells(mean, deviation), abs=1e-5
    )


def test_many_contexts_have_the_bytes_of_one_by_one() -> None:
    rng = np.random.default_rng(7)
    for n in (1, 2, 3, 12, 13, 50):
        for n_rows in (1, 2, 40):
            for decades in (0.0, 0.5, 1.0, 3.0, 12.0):
                deviation = 10.0 ** rng.uniform(-decades, 0.0, (n_rows, n))
                mean = rng.normal(0.0, 1.0, (n_rows, n)) * 10.0 ** rng.uniform(-3, 0.5, (n_rows, 1))
                together = best_probabilities_many(mean, deviation)
                alone = [best_probabilities(m, s) for m, s in zip(mean, deviation, strict=True)]
                assert together.tobytes() == np.array(alone).tobytes()


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from((0.0, 0.1, 0.1000001, -3.0, 1e6)), min_size=4, max_size=4),
            st.lists(st.sampled_from((0.0, 1e-12, 1e-3, 0.1, 1.0, 1e3)), min_size=4, max_size=4),
        ),
        max_size=12,
    )
)
@settings(max_examples=60)
def test_odd_contexts_among_many_have_the_bytes_of_one_by_one(
    rows: list[tuple[list[float], list[float]]],
) -> None:
    mean = np.array([m for m, _ in rows]).reshape(len(rows), 4)
    deviation = np.array([s for _, s in rows]).reshape(len(rows), 4)
    together = best_probabilities_many(mean, deviation)
    for row, m, s in zip(together, mean, deviation, strict=True):
        assert row.tobytes() == best_probabilities(m, s).tobytes()


def test_many_with_an_impossible_one_are_refused() -> None:
    with pytest.raises(UsageError):
        best_probabilities_many(np.zeros((2, 3)), np.array([[1.0] * 3, [1.0, math.inf, 1.0]]))
    with pytest.raises(UsageError):
        best_probabilities_many(np.array([[0.0, math.nan]]), np.ones((1, 2)))


def test_a_thousandfold_apart_is_integrated_over_few_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Counted, not timed: on a busy machine the same code takes twice as long as a moment before.
    n_points: list[int] = []
    weigh = thompson_probabilities.densities

    def counting(points: Vector, *others: Any) -> Vector:
        n_points.append(points.shape[-1])
        return weigh(points, *others)

    monkeypatch.setattr(thompson_probabilities, "densities", counting)
    rng = np.random.default_rng(1)
    for n in (3, 12, 50):
        for _ in range(100):
            deviation = 10.0 ** rng.uniform(-3.0, 0.0, n)
            best_probabilities(-2.0 * rng.random(n) * deviation, deviation)
    assert max(n_points) <= thompson_probabilities.GRID_POINTS_MAX
    n_points.clear()
    apart = np.logspace(-3.0, 0.0, 12)
    best_probabilities(-1.5 * apart, apart)
    best_probabilities(rng.normal(0.0, 0.3, 12), np.full(12, 0.1))
    assert n_points[0] <= 3 * n_points[1]
