"""A model elsewhere decides where its scores stand in the context; else the policy within."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base import checksum_of
from policies.endpoint import PREFIX, SCORED, EndpointPolicy, feature_names, is_score
from policies.registry import prior, restore
from policies.snapshots import Identity, from_bytes, take, to_bytes
from schemas.checks import PPB
from schemas.decisions import Features
from schemas.errors import SettingsError
from schemas.loops import LoopConfigured
from schemas.outcomes import OutcomeClosed

MakeConfig = Callable[..., LoopConfigured]
MakeOutcome = Callable[..., OutcomeClosed]

ACTIONS = ("hello", "welcome", "good-day")
OWN = ("bias", "happy", "age")
# The scores stand in the middle: nothing may depend on their being last.
FEATURES = ("bias", *feature_names(ACTIONS), "happy", "happy:label.scored", "age")
INNER = ("thompson", "linucb", "squarecb", "softmax", "epsilon_greedy", "uniform")


def context(scores: tuple[float, ...] | None, happy: float = 0.3, age: float = 0.4) -> Features:
    told = (0.0,) * 4 if scores is None else (1.0, *scores)
    return Features(dense=(1.0, *told, happy, happy * told[0], age))


def configured(make_config: MakeConfig, inner: str = "thompson") -> LoopConfigured:
    return make_config(PREFIX + inner, features=FEATURES)


def taught(policy: Any, make_outcome: MakeOutcome, scored: bool, seed: int = 2) -> Any:
    rng = np.random.default_rng(seed)
    wide = isinstance(policy, EndpointPolicy)
    for number in range(40):
        happy, age = rng.random(2).tolist()
        scores = (0.2, 0.3, 0.5) if scored and number % 2 else None
        x = context(scores, happy, age).dense if wide else (1.0, happy, age)
        action = ACTIONS[int(rng.integers(3))]
        policy = policy.learn(make_outcome(action, x, float(rng.uniform(-1, 1)), 0.9))
    return policy


@pytest.mark.parametrize("inner", INNER)
def test_what_the_endpoint_said_is_done(make_config: MakeConfig, inner: str) -> None:
    policy = prior(configured(make_config, inner))
    p = policy.probabilities(context((0.2, 0.3, 0.5)), (True, True, True))
    assert p.tolist() == pytest.approx([0.2, 0.3, 0.5])
    p = policy.probabilities(context((0.2, 0.3, 0.5)), (True, False, True))
    assert p.tolist() == pytest.approx([2 / 7, 0.0, 5 / 7])


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("eligible", [(True, True, True), (False, True, True)])
def test_without_an_answer_the_policy_within_decides_to_the_byte(
    make_config: MakeConfig, make_outcome: MakeOutcome, inner: str, eligible: tuple[bool, ...]
) -> None:
    alone = taught(prior(make_config(inner, features=OWN)), make_outcome, False)
    hosted = taught(prior(configured(make_config, inner)), make_outcome, True)
    for happy in (0.0, 0.3, 0.9):
        mine = hosted.probabilities(context(None, happy), eligible)
        its = alone.probabilities(Features(dense=(1.0, happy, 0.4)), eligible)
        assert mine.tobytes() == its.tobytes()
    many = hosted.probabilities_many([context(None), context((1.0, 0.0, 0.0))], [eligible] * 2)
    assert many[0].tobytes() == hosted.probabilities(context(None), eligible).tobytes()


def test_less_than_nothing_counts_as_nothing(make_config: MakeConfig) -> None:
    policy = prior(configured(make_config, "uniform"))
    p = policy.probabilities(context((-0.5, 0.5, 0.5)), (True, True, True))
    assert p.tolist() == pytest.approx([0.0, 0.5, 0.5])


def test_an_answer_that_leaves_no_chance_to_whoever_may_is_none(make_config: MakeConfig) -> None:
    policy = prior(configured(make_config, "uniform"))
    p = policy.probabilities(context((1.0, 0.0, 0.0)), (False, True, True))
    assert p.tolist() == pytest.approx([0.0, 0.5, 0.5])


@given(st.lists(st.floats(-1e5, 1e5) | st.just(float("nan")), min_size=3, max_size=3))
def test_whatever_stands_there_it_is_a_distribution(scores: list[float]) -> None:
    policy = EndpointPolicy(_uniform(), FEATURES)
    p = policy.probabilities(context((scores[0], scores[1], scores[2])), (True, True, True))
    assert p.sum() == pytest.approx(1.0)
    assert (p >= 0.0).all()


def _uniform() -> Any:
    from policies.uniform import Uniform

    return Uniform(ACTIONS, OWN)


@pytest.mark.parametrize("inner", INNER)
def test_a_snapshot_brings_it_back_to_the_byte(
    make_config: MakeConfig, make_outcome: MakeOutcome, inner: str
) -> None:
    config = configured(make_config, inner)
    policy = taught(prior(config), make_outcome, True)
    identity = Identity("main", 0, 3, "serving", 0, PPB // 20)
    snapshot = take(policy, identity, config)
    assert from_bytes(to_bytes(snapshot), config)[0] == snapshot
    again = restore(snapshot, config)
    assert again.algorithm == PREFIX + inner
    assert checksum_of(again) == checksum_of(policy)
    for scores in (None, (0.1, 0.1, 0.8)):
        mine = again.probabilities(context(scores), (True, True, True))
        assert mine.tobytes() == policy.probabilities(context(scores), (True,) * 3).tobytes()
    if inner != "uniform":
        assert checksum_of(policy) != checksum_of(prior(config))


def test_many_outcomes_are_learned_as_one_by_one(
    make_config: MakeConfig, make_outcome: MakeOutcome
) -> None:
    policy = prior(configured(make_config))
    outcomes = [
        make_outcome(ACTIONS[i % 3], context((0.3, 0.3, 0.4), i / 9).dense, i / 9, 0.8)
        for i in range(9)
    ]
    one_by_one = policy
    for outcome in outcomes:
        one_by_one = one_by_one.learn(outcome)
    assert checksum_of(policy.learn_many(outcomes)) == checksum_of(one_by_one)
    assert policy.learn_many([]) is policy
    nothing = dataclasses.replace(outcomes[0], precision=0.0)
    assert policy.learn(nothing) is policy


@pytest.mark.parametrize("missing", [SCORED, "label.score.welcome"])
def test_a_loop_without_a_place_for_the_scores_is_refused(
    make_config: MakeConfig, missing: str
) -> None:
    features = tuple(name for name in FEATURES if missing not in name)
    with pytest.raises(SettingsError, match=f'Add to the features of loop .*"{missing}"'):
        prior(make_config(PREFIX + "thompson", features=features))


@pytest.mark.parametrize("inner", ["fixed", "apprentice"])
def test_a_policy_that_does_not_explore_is_refused(make_config: MakeConfig, inner: str) -> None:
    with pytest.raises(SettingsError, match="takes one action only"):
        prior(configured(make_config, inner))


@pytest.mark.parametrize("name", ["endpoint:", "endpoint:nobody", "endpoint:endpoint:thompson"])
def test_an_algorithm_that_is_none_is_refused(make_config: MakeConfig, name: str) -> None:
    with pytest.raises(SettingsError, match="there is no policy algorithm"):
        prior(make_config(name, features=FEATURES))


def test_an_action_with_a_colon_has_no_place(make_config: MakeConfig) -> None:
    config = make_config(PREFIX + "thompson", actions=("a", "b:c"), features=FEATURES)
    with pytest.raises(SettingsError, match="A colon means a product"):
        prior(config)


def test_products_of_scores_are_scores() -> None:
    assert [name for name in FEATURES if not is_score(name)] == list(OWN)
