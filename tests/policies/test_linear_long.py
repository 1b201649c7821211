"""What remains right after a million updates, compared with sums of 80-bit numbers."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from policies.linear import LinearPosterior

Vector = NDArray[np.float64]
Long = NDArray[np.longdouble]
UPDATES = int(os.environ.get("UPDATES", "50000"))
"""`UPDATES=1000000` is the long way."""
N_ACTIONS, N_FEATURES = 12, 17
Batch = tuple[NDArray[np.intp], Vector, Vector, Vector]


def batch(rng: np.random.Generator, n: int, weight: float | None = None) -> Batch:
    xs = rng.uniform(-1.0, 1.0, (n, N_FEATURES))
    xs[:, 0] = 1.0
    weights = rng.uniform(0.0, 1.0, n) if weight is None else np.full(n, weight)
    return rng.integers(0, N_ACTIONS, n), xs, rng.uniform(-1.0, 1.0, n), weights


def solved(matrix: Long, right: Long) -> Long:
    """Solve by Gauss-Jordan in 80 bits; the matrices here need no pivot."""
    work = np.concatenate((matrix, right), axis=1)
    for k in range(len(matrix)):
        work[k] /= work[k, k]
        for row in range(len(matrix)):
            if row != k:
                work[row] -= work[row, k] * work[k]
    result: Long = work[:, len(matrix) :]
    return result


def worst(posterior: LinearPosterior, precisions: Long, moments: Long) -> float:
    """Return the largest relative error of mean weights and of variances in some contexts."""
    rng = np.random.default_rng(9)
    xs = rng.uniform(-1.0, 1.0, (8, N_FEATURES))
    means, variances = posterior.estimates_many(xs)
    errors = []
    for action in range(N_ACTIONS):
        right = np.column_stack((moments[action], xs.T.astype(np.longdouble)))
        exact = solved(precisions[action], right)
        exact_means = xs @ exact[:, 0]
        exact_variances = np.array([x @ exact[:, 1 + row] for row, x in enumerate(xs)])
        errors.append(np.abs(means[:, action] - exact_means).max())
        errors.append(np.abs(variances[:, action] / exact_variances - 1.0).max())
    return float(max(errors))


def prior_sums(alpha: float) -> tuple[Long, Long]:
    eye = alpha * np.eye(N_FEATURES, dtype=np.longdouble)
    zeros = np.zeros((N_ACTIONS, N_FEATURES), dtype=np.longdouble)
    return np.repeat(eye[None], N_ACTIONS, axis=0), zeros


def test_after_many_updates_the_posterior_is_the_exact_one() -> None:
    rng = np.random.default_rng(1)
    posterior = LinearPosterior.prior(N_ACTIONS, N_FEATURES, alpha=0.5, beta=4.0)
    precisions, moments = prior_sums(0.5)
    for _ in range(UPDATES // 10_000):
        actions, xs, rewards, weights = batch(rng, 10_000)
        posterior = posterior.learn_many(actions, xs, rewards, weights)
        for action in range(N_ACTIONS):
            mine = actions == action
            x = xs[mine].astype(np.longdouble)
            scaled = (4.0 * x * weights[mine, None]).T
            precisions[action] += scaled @ x
            moments[action] += scaled @ rewards[mine]
    assert worst(posterior, precisions, moments) < 1e-9


def test_after_many_updates_with_a_discount_it_is_the_exact_one_too() -> None:
    rng = np.random.default_rng(2)
    discount = 0.99
    posterior = LinearPosterior.prior(N_ACTIONS, N_FEATURES, 0.5, 4.0, discount)
    for _ in range(UPDATES // 10_000):
        posterior = posterior.learn_many(*batch(rng, 10_000))
    actions, xs, rewards, weights = batch(rng, 100_000)
    posterior = posterior.learn_many(actions, xs, rewards, weights)
    # The last 8,000 of each action tell all: of what was before 0.99**4000, 3e-18, is left. The
    # prior is forgotten towards itself.
    precisions, moments = prior_sums(0.5)
    for action in range(N_ACTIONS):
        mine = actions == action
        keeps = 1.0 - (1.0 - np.longdouble(discount)) * weights[mine]
        later = np.append(np.cumprod(keeps[::-1])[::-1][1:], np.longdouble(1.0))
        x = xs[mine].astype(np.longdouble)
        scaled = (4.0 * x * (weights[mine] * later)[:, None]).T
        precisions[action] += scaled @ x
        moments[action] += scaled @ rewards[mine]
    assert worst(posterior, precisions, moments) < 1e-6


@pytest.mark.parametrize("discount", [0.9995, 0.9, 0.5])
def test_what_never_comes_stays_as_uncertain_as_before_and_never_more(discount: float) -> None:
    rng = np.random.default_rng(3)
    posterior = LinearPosterior.prior(N_ACTIONS, N_FEATURES, 2.0, 4.0, discount)
    for _ in range(UPDATES // 10_000):
        actions, xs, rewards, weights = batch(rng, 10_000)
        xs[:, -1] = 0.0
        xs[:, -2] = xs[:, -3]
        posterior = posterior.learn_many(actions, xs, rewards, weights)
    unexcited = np.zeros((2, N_FEATURES))
    unexcited[0, -1] = 1.0
    unexcited[1, -2], unexcited[1, -3] = 1.0, -1.0
    means, variances = posterior.estimates_many(unexcited)
    assert variances[0] == pytest.approx(1.0 / 2.0, rel=1e-9)
    assert variances[1] == pytest.approx(2.0 / 2.0, rel=1e-9)
    assert (np.abs(means) < 1e-9).all()
    # Of the state itself, since a variance above the prior's is cut when it is asked for.
    assert posterior.precisions[:, -1, -1] == pytest.approx(2.0, rel=1e-9)
    contexts = rng.uniform(-3.0, 3.0, (200, N_FEATURES))
    _, variances = posterior.estimates_many(contexts)
    assert (variances <= (contexts * contexts).sum(axis=1)[:, None] / 2.0).all()


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=40
    ),
    st.sampled_from((1.0, 0.9995, 0.7)),
    st.integers(1, 5),
)
@settings(max_examples=30)
def test_a_batch_has_the_bytes_of_one_by_one(
    seen: list[tuple[int, float, float]], discount: float, size: int
) -> None:
    rng = np.random.default_rng(len(seen))
    xs = rng.normal(0.0, 1.0, (len(seen), size))
    start = LinearPosterior.prior(4, size, 0.7, 3.0, discount)
    alone = start
    for place, ((action, reward, weight), x) in enumerate(zip(seen, xs, strict=True)):
        alone = alone.learn(action, x, reward, weight)
        if place % 3 == 0:  # so that one, two or three actions are derived anew
            alone.estimates(x)
    actions, rewards, weights = (np.array(each) for each in zip(*seen, strict=True))
    together = start.learn_many(actions, xs, rewards, weights)
    assert together.precisions.tobytes() == alone.precisions.tobytes()
    assert together.moments.tobytes() == alone.moments.tobytes()
    means, variances = together.estimates_many(xs)
    for row, x in enumerate(xs[:6]):
        for posterior in (alone, together):
            mean, variance = posterior.estimates(x)
            assert mean.tobytes() == means[row].tobytes()
            assert variance.tobytes() == variances[row].tobytes()


@pytest.mark.parametrize("size", [2, 17, 40])
def test_what_is_derived_does_not_depend_on_where_it_lies_in_memory(size: int) -> None:
    rng = np.random.default_rng(4)
    posterior = LinearPosterior.prior(2, size)
    for _ in range(50):
        posterior = posterior.learn(0, rng.normal(0.0, 1.0, size), 1.0, 0.9)
    x = rng.normal(0.0, 1.0, size)
    digests, kept = set(), []
    for length in range(12):
        kept.append(np.zeros(8 * length + 1))  # what lies before moves what comes next
        state = posterior.precisions.copy(), posterior.moments.copy()
        again = LinearPosterior(*state, 1.0, 4.0, 1.0)
        digests.add(b"".join(array.tobytes() for array in again.estimates(x)))
    assert len(digests) == 1
