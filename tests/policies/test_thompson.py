from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from policies.registry import prior
from policies.thompson import Thompson
from policies.thompson_probabilities import best_probabilities
from schemas.decisions import Features
from schemas.loops import LoopConfigured
from schemas.outcomes import OutcomeClosed

MakeConfig = Callable[..., LoopConfigured]
MakeOutcome = Callable[..., OutcomeClosed]

CONTEXT = (1.0, 0.3, 0.4)


@pytest.fixture
def policy(make_config: MakeConfig, make_outcome: MakeOutcome) -> Thompson:
    made = prior(make_config("thompson"))
    assert isinstance(made, Thompson)
    for action, reward in (("hello", 0.4), ("welcome", 0.1), ("hello", -0.2), ("good-day", 0.3)):
        made = made.learn(make_outcome(action, CONTEXT, reward))
    return made


def test_an_outcome_weighs_as_its_precision_says(
    policy: Thompson, make_outcome: MakeOutcome
) -> None:
    learned = policy.learn(make_outcome("welcome", CONTEXT, 0.7, 0.25))
    expected = policy.posterior.learn(1, np.array(CONTEXT), 0.7, 0.25)
    assert learned.posterior.precisions.tobytes() == expected.precisions.tobytes()
    assert learned.posterior.moments.tobytes() == expected.moments.tobytes()


@pytest.mark.parametrize("eligible", [(True, True, True), (True, False, True)])
def test_an_action_is_as_probable_as_it_is_the_best_of_the_eligible(
    policy: Thompson, eligible: tuple[bool, ...]
) -> None:
    x = (1.0, 0.9, 0.1)
    means, variances = policy.posterior.estimates(np.array(x))
    those = np.flatnonzero(eligible)
    expected = best_probabilities(means[those], np.sqrt(variances)[those])
    p = policy.probabilities(Features(dense=x), eligible)
    assert p[those] == pytest.approx(expected, abs=1e-12)
    assert 0.01 < p[0] < 0.99


def test_nothing_known_of_any_action_means_equal_chances(make_config: MakeConfig) -> None:
    p = prior(make_config("thompson")).probabilities(Features(dense=CONTEXT), (True,) * 3)
    assert p == pytest.approx([1 / 3] * 3, abs=1e-12)


def test_a_context_of_zeros_has_equal_chances(policy: Thompson) -> None:
    p = policy.probabilities(Features(dense=(0.0, 0.0, 0.0)), (True, True, True))
    assert p == pytest.approx([1 / 3] * 3, abs=1e-12)
