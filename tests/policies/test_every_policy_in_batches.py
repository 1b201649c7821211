"""What every policy must do with many at once: the very bytes of one by one, at any speed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.base import Policy, checksum_of
from policies.registry import ALGORITHMS, prior
from schemas.decisions import Features
from schemas.errors import PolicyError
from schemas.loops import LoopConfigured
from schemas.outcomes import OutcomeClosed

MakeConfig = Callable[..., LoopConfigured]
MakeOutcome = Callable[..., OutcomeClosed]

OWN = tuple(sorted(ALGORITHMS))
GUESTS = ("river:bandit.LinUCBDisjoint", "river:linear_model.BayesianLinearRegression")
UPDATES = int(os.environ.get("UPDATES", "20000"))
"""`UPDATES=1000000` is the long way: half a minute."""

own = pytest.mark.parametrize("algorithm", OWN)
every = pytest.mark.parametrize("algorithm", (*OWN, *GUESTS))


@pytest.fixture(scope="module")
def many(make_outcome: MakeOutcome) -> list[OutcomeClosed]:
    """Return outcomes by a seed; some teach nothing, some are of actions nobody knows."""
    rng = np.random.default_rng(8)
    actions = ("hello", "welcome", "welcome", "welcome", "good-day", "goodbye")
    precisions = (0.0, 0.25, 0.7, 1.0, 1.0)
    return [
        make_outcome(
            actions[int(rng.integers(6))],
            (1.0, float(rng.random()), float(rng.random())),
            float(rng.uniform(-1, 1)),
            precisions[int(rng.integers(5))],
        )
        for _ in range(400)
    ]


def one_after_the_other(policy: Policy, outcomes: list[OutcomeClosed]) -> Policy:
    for outcome in outcomes:
        policy = policy.learn(outcome)
    return policy


@every
@given(cuts=st.lists(st.integers(0, 400), max_size=4), asked=st.integers(0, 40))
@settings(max_examples=8)
def test_a_batch_learns_the_bytes_of_one_by_one(
    algorithm: str,
    cuts: list[int],
    asked: int,
    many: list[OutcomeClosed],
    make_config: MakeConfig,
) -> None:
    n = 60 if algorithm.startswith("river:") else 400
    policy = start = prior(make_config(algorithm))
    borders = sorted({0, n, *(min(cut, n) for cut in cuts)})
    context = Features(dense=(1.0, asked / 7, -asked / 5))
    for low, high in pairwise(borders):
        policy = policy.learn_many(many[low:high])
        policy.probabilities(context, (True, True, True))
    alone = one_after_the_other(start, many[:n])
    assert checksum_of(policy) == checksum_of(alone)
    everyone = (True, True, True)
    assert (
        policy.probabilities(context, everyone).tobytes()
        == alone.probabilities(context, everyone).tobytes()
    )


@every
def test_a_batch_that_teaches_nothing_gives_the_very_same_policy(
    algorithm: str, make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    policy = prior(make_config(algorithm))
    nothing = [
        make_outcome("goodbye", (1.0, 0.0, 0.0), 1.0),
        make_outcome("hello", (1.0, 0.0, 0.0), 1.0, 0.0),
    ]
    assert policy.learn_many(nothing) is policy
    assert policy.learn_many([]) is policy


@every
@given(
    rows=st.lists(
        st.tuples(
            st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-2e4, 2e4)),
            st.tuples(st.booleans(), st.booleans(), st.booleans()).filter(any),
        ),
        max_size=30,
    )
)
@settings(max_examples=25)
def test_a_batch_decides_the_bytes_of_one_by_one(
    algorithm: str,
    rows: list[tuple[tuple[float, ...], tuple[bool, ...]]],
    many: list[OutcomeClosed],
    make_config: MakeConfig,
) -> None:
    policy = prior(make_config(algorithm)).learn_many(many[:40])
    contexts = [Features(dense=x) for x, _ in rows]
    eligible = [may for _, may in rows]
    together = policy.probabilities_many(contexts, eligible)
    assert together.shape == (len(rows), 3)
    for row, context, may in zip(together, contexts, eligible, strict=True):
        assert row.tobytes() == policy.probabilities(context, may).tobytes()
    if rows:
        as_array = policy.probabilities_many(contexts, np.array(eligible))
        assert as_array.tobytes() == together.tobytes()


@every
def test_a_batch_with_one_that_does_not_fit_is_refused(
    algorithm: str, make_config: MakeConfig
) -> None:
    policy = prior(make_config(algorithm))
    good, short = Features(dense=(1.0, 0.0, 0.0)), Features(dense=(1.0,))
    everyone = (True, True, True)
    for contexts, eligible in (
        ([good, short], [everyone, everyone]),
        ([good, good], [everyone]),
        ([good, good], [everyone, (False, False, False)]),
        ([good], [(True, True)]),
    ):
        with pytest.raises(PolicyError):
            policy.probabilities_many(contexts, eligible)


@own
def test_many_updates_with_extreme_features_leave_everything_finite(
    algorithm: str, make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    rng = np.random.default_rng(4)
    policy = prior(make_config(algorithm))
    extreme = (0.0, 1e-300, 1e4, -1e4, 1e300, float("inf"), float("nan"), 1.0)
    outcomes = [
        make_outcome(
            policy.actions[int(rng.integers(3))],
            tuple(float(rng.choice(extreme)) for _ in range(3)),
            float(rng.choice((-1.0, 1.0))),
            float(rng.choice((1e-300, 0.5, 1.0))),
        )
        for _ in range(2_000)
    ]
    # An apprentice learns one by one, in every regression.
    rounds = max(1, UPDATES // len(outcomes) // (20 if algorithm == "apprentice" else 1))
    for _ in range(rounds):
        policy = policy.learn_many(outcomes)
    contexts = [outcome.choice.features for outcome in outcomes[:50]]
    p = policy.probabilities_many(contexts, [(True, True, True)] * len(contexts))
    assert np.isfinite(p).all()
    assert p.sum(axis=1) == pytest.approx(1.0, abs=1e-9)
    for array in policy.snapshot_arrays():
        assert np.isfinite(np.frombuffer(array.data)).all()


@every
def test_learning_and_deciding_do_not_slow_down(
    algorithm: str, many: list[OutcomeClosed], make_config: MakeConfig
) -> None:
    n_old = 2_000 if algorithm.startswith("river:") or algorithm == "apprentice" else 20_000
    taught = [x for x in many if x.precision and x.choice.action_id != "goodbye"]
    young = prior(make_config(algorithm)).learn_many(taught[:100])
    old = prior(make_config(algorithm))
    for _ in range(n_old // len(taught)):
        old = old.learn_many(taught)

    def step(policy: Policy, outcome: OutcomeClosed) -> tuple[Policy, float]:
        started_s = time.perf_counter()
        policy = policy.learn(outcome)
        policy.probabilities(outcome.choice.features, (True, True, True))
        return policy, time.perf_counter() - started_s

    # In turns, so that what else the machine does falls on both alike.
    ratios = []
    for _ in range(3):
        times_s: tuple[list[float], list[float]] = ([], [])
        for outcome in taught[:40]:
            young, young_s = step(young, outcome)
            old, old_s = step(old, outcome)
            times_s[0].append(young_s)
            times_s[1].append(old_s)
        ratios.append(median(times_s[1]) / median(times_s[0]))
    assert median(ratios) < 2.0
