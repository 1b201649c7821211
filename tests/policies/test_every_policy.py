"""What every policy must do, whichever it is: found through the registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base import Policy, checksum_of
from policies.probabilities import draw_ppb, mix, pick
from policies.registry import ALGORITHMS, prior, restore
from policies.snapshots import Identity, from_bytes, take, to_bytes
from schemas.checks import PPB
from schemas.decisions import Features
from schemas.errors import PolicyError
from schemas.loops import LoopConfigured
from schemas.outcomes import OutcomeClosed

MakeConfig = Callable[..., LoopConfigured]
MakeOutcome = Callable[..., OutcomeClosed]

GUESTS = (
    "river:bandit.LinUCBDisjoint",
    "river:linear_model.BayesianLinearRegression",
    "river:linear_model.LinearRegression",
    "river:neighbors.KNNRegressor",
    "river:tree.HoeffdingTreeRegressor",
)
EVERY = (*sorted(ALGORITHMS), *GUESTS)
LEARNERS = (
    *(name for name in sorted(ALGORITHMS) if name not in ("apprentice", "fixed", "uniform")),
    "river:bandit.LinUCBDisjoint",
    "river:linear_model.BayesianLinearRegression",
)
IDENTITY = Identity("main", 0, 3, "serving", 0, PPB // 20)
CONTEXT = Features(dense=(1.0, 0.3, 0.4))

every = pytest.mark.parametrize("algorithm", EVERY)


def taught(policy: Policy, make_outcome: MakeOutcome, n: int = 60) -> Policy:
    """Let a policy learn from chance, by a seed."""
    rng = np.random.default_rng(2)
    for _ in range(n):
        action = policy.actions[int(rng.integers(len(policy.actions)))]
        x = (1.0, float(rng.random()), float(rng.random()))
        precision = float(rng.random())
        policy = policy.learn(make_outcome(action, x, float(rng.uniform(-1, 1)), precision))
    return policy


def answers(policy: Policy) -> list[bytes]:
    """Return probabilities in several contexts, as bytes."""
    contexts = [Features(dense=(1.0, i / 7, 1 - i / 5)) for i in range(8)]
    eligible = [True] * len(policy.actions)
    return [policy.probabilities(context, eligible).tobytes() for context in contexts]


@every
@pytest.mark.parametrize("eligible", [(True,) * 3, (False, True, True), (False, False, True)])
@pytest.mark.parametrize("n", [0, 60])
def test_probabilities_add_up_and_are_zero_where_excluded(
    algorithm: str,
    eligible: Sequence[bool],
    n: int,
    make_config: MakeConfig,
    make_outcome: MakeOutcome,
) -> None:
    policy = taught(prior(make_config(algorithm)), make_outcome, n)
    p = policy.probabilities(CONTEXT, eligible)
    assert p.shape == (3,)
    assert math.fsum(p) == pytest.approx(1.0, abs=1e-9)
    assert all(
        0.0 <= each <= 1.0 and (may or each == 0.0) for each, may in zip(p, eligible, strict=True)
    )
    assert sum(mix(p.tolist(), eligible, 2, PPB // 10, PPB // 20).probabilities_ppb) == PPB


@every
def test_the_same_twice_is_the_same(
    algorithm: str, make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    one = taught(prior(make_config(algorithm)), make_outcome)
    two = taught(prior(make_config(algorithm)), make_outcome)
    assert checksum_of(one) == checksum_of(two)
    assert answers(one) == answers(two) == answers(one)


@every
def test_learning_does_not_change_the_policy_it_starts_from(
    algorithm: str, make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    policy = taught(prior(make_config(algorithm)), make_outcome)
    before = checksum_of(policy), answers(policy)
    outcome = make_outcome("hello", (1.0, 0.9, 0.1), 1.0)
    once = policy.learn(outcome)
    again = policy.learn(outcome)
    other = policy.learn(make_outcome("welcome", (1.0, 0.9, 0.1), -1.0))
    assert (checksum_of(policy), answers(policy)) == before
    assert checksum_of(once) == checksum_of(again)
    assert answers(once) == answers(again)
    assert (checksum_of(other) == checksum_of(once)) == (once is policy)
    twice = once.learn(outcome)
    assert checksum_of(again.learn(outcome)) == checksum_of(twice)


@every
def test_what_teaches_nothing_gives_the_very_same_policy(
    algorithm: str, make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    policy = taught(prior(make_config(algorithm)), make_outcome)
    assert policy.learn(make_outcome("hello", (1.0, 0.5, 0.5), 1.0, 0.0)) is policy
    assert policy.learn(make_outcome("goodbye", (1.0, 0.5, 0.5), 1.0)) is policy


@every
def test_a_snapshot_comes_back_with_the_same_bytes_and_probabilities(
    algorithm: str, make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    config = make_config(algorithm)
    for n in (0, 60):
        policy = taught(prior(config), make_outcome, n)
        snapshot = take(policy, IDENTITY, config)
        record, restored = from_bytes(to_bytes(snapshot), config)
        assert record == snapshot
        assert take(restored, IDENTITY, config) == snapshot
        assert answers(restored) == answers(policy)
        outcome = make_outcome("welcome", (1.0, 0.2, 0.7), 0.4, 0.6)
        assert checksum_of(restored.learn(outcome)) == checksum_of(policy.learn(outcome))
        assert answers(restored.learn(outcome)) == answers(policy.learn(outcome))


@every
@given(
    x=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=3, max_size=3),
    reward=st.floats(-1.0, 1.0),
)
def test_extreme_features_leave_probabilities_finite(
    algorithm: str,
    x: list[float],
    reward: float,
    make_config: MakeConfig,
    make_outcome: MakeOutcome,
) -> None:
    if algorithm.startswith("river:linear_model.LinearRegression"):
        x = [min(max(value, -30.0), 30.0) for value in x]
    policy = prior(make_config(algorithm))
    extreme = Features(dense=tuple(x))
    for _ in range(3):
        for context in (extreme, CONTEXT):
            p = policy.probabilities(context, (True, True, True))
            assert np.isfinite(p).all()
            assert math.fsum(p) == pytest.approx(1.0, abs=1e-9)
        policy = policy.learn(make_outcome("hello", x, reward))


@every
def test_actions_that_stay_keep_what_was_learned(
    algorithm: str, make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    config = make_config(algorithm)
    policy = taught(prior(config), make_outcome)
    assert policy.with_actions(policy.actions) == policy
    wider = policy.with_actions(("good-day", "new", "hello", "welcome"))
    assert wider.actions == ("good-day", "new", "hello", "welcome")
    back = wider.with_actions(policy.actions)
    assert checksum_of(back) == checksum_of(policy)
    assert answers(back) == answers(policy)
    without_new = wider.probabilities(CONTEXT, (True, False, True, True))
    expected = policy.probabilities(CONTEXT, (True, True, True))
    assert without_new[[2, 3, 0]] == pytest.approx(expected, abs=1e-12)


@every
def test_what_does_not_fit_is_refused(algorithm: str, make_config: MakeConfig) -> None:
    policy = prior(make_config(algorithm))
    everyone = (True, True, True)
    for context in (
        Features(),
        Features(dense=(1.0, 2.0)),
        Features(indices=(3,), values=(1.0,)),
        Features(indices=(-1,), values=(1.0,)),
        Features(indices=(0, 1), values=(1.0,)),
    ):
        with pytest.raises(PolicyError):
            policy.probabilities(context, everyone)
    for eligible in ((False, False, False), (True, True)):
        with pytest.raises(PolicyError):
            policy.probabilities(CONTEXT, eligible)


@every
def test_a_sparse_context_is_a_dense_one_with_zeros(
    algorithm: str, make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    policy = taught(prior(make_config(algorithm)), make_outcome)
    sparse = Features(indices=(0, 2), values=(1.0, 0.7))
    dense = Features(dense=(1.0, 0.0, 0.7))
    everyone = (True, True, True)
    assert (
        policy.probabilities(sparse, everyone).tobytes()
        == policy.probabilities(dense, everyone).tobytes()
    )


@every
def test_degenerate_support_means_one_action(algorithm: str, make_config: MakeConfig) -> None:
    policy = prior(make_config(algorithm))
    assert policy.support == ("degenerate" if algorithm in ("apprentice", "fixed") else "full")
    if policy.support == "degenerate":
        assert policy.probabilities(CONTEXT, (True, True, True)).tolist() == [1.0, 0.0, 0.0]
        assert policy.probabilities(CONTEXT, (False, True, True)).tolist() == [0.0, 1.0, 0.0]


WEIGHTS = {"hello": (0.0, 0.3, 0.0), "welcome": (0.3, -0.4, 0.0), "good-day": (0.0, 0.0, 0.3)}
"""The true weights of bias, happy and age; uniform choice earns 0.142 here, the best 0.276."""


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_a_learner_earns_more_than_chance(
    algorithm: str, make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    rng = np.random.default_rng(11)
    policy = prior(make_config(algorithm))
    late, chance = [], []
    for visit in range(800):
        x = (1.0, float(rng.random()), float(rng.random()))
        earns = {
            action: sum(w * each for w, each in zip(weights, x, strict=True))
            for action, weights in WEIGHTS.items()
        }
        p = policy.probabilities(Features(dense=x), (True, True, True))
        mixed = mix(p.tolist(), (True, True, True), 0, 0, PPB // 10)
        index, _ = pick(mixed, draw_ppb(3, "greetings", str(visit)), 0)
        action = policy.actions[index]
        reward = earns[action] + float(rng.normal(0.0, 0.2))
        policy = policy.learn(make_outcome(action, x, reward))
        if visit >= 400:
            late.append(earns[action])
            chance.append(sum(earns.values()) / len(earns))
    assert np.mean(late) > np.mean(chance) + 0.06


@every
def test_restoring_follows_the_registry(
    algorithm: str, make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    config = make_config(algorithm)
    policy = taught(prior(config), make_outcome)
    restored = restore(take(policy, IDENTITY, config), config)
    assert type(restored) is type(policy)
    assert (restored.algorithm, restored.actions, restored.features) == (
        algorithm,
        policy.actions,
        policy.features,
    )
