"""Those that `benchmarks/policies.py` compares, each made as its own documentation says."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.parts.policies_case import N_ACTIONS, N_FEATURES, NOISE, Vector
from policies.base import Policy
from policies.registry import prior
from schemas.checks import PPB
from schemas.decisions import Choice, Features, OfferedAction, RewardRules
from schemas.features import features_hash
from schemas.loops import ActionConfigured, LoopConfigured, Parameter, PolicyConfigured
from schemas.outcomes import OutcomeClosed

ACTIONS = tuple(f"a{place}" for place in range(N_ACTIONS))
NAMES = tuple(f"f{place}" for place in range(N_FEATURES))
ALL = (True,) * N_ACTIONS
Places = NDArray[np.intp]


def _config(algorithm: str, numbers: dict[str, float]) -> LoopConfigured:
    rules = RewardRules(
        activation="at_decision",
        reward_window_ms=1,
        grace_ms=0,
        aggregation="latest",
        reward_low=-9.0,
        reward_high=9.0,
        default_reward=0.0,
        missing="default",
        reaction_delay_ms=0,
        min_confidence=0.0,
        closing_reactions=0,
        dedup_horizon_ms=1_000,
    )
    parameters = tuple(Parameter(name, value) for name, value in numbers.items())
    return LoopConfigured(
        loop_id="benchmark",
        config_hash="c0",
        features_hash=features_hash(NAMES),
        feature_names=NAMES,
        actions=tuple(ActionConfigured(action) for action in ACTIONS),
        baseline_id=ACTIONS[0],
        default_language="en",
        seed=1,
        mode="online",
        control_share_ppb=0,
        floor_ppb=PPB // 100,
        rules=rules,
        policies=(PolicyConfigured("main", algorithm, "serving", parameters),),
    )


def _outcome() -> OutcomeClosed:
    choice = Choice(
        decision_id="d",
        loop_id="benchmark",
        config_hash="c0",
        host="stream",
        decided_at_ms=0,
        features_hash="",
        features=Features(),
        actions=(OfferedAction(ACTIONS[0], True, PPB, PPB),),
        baseline_id=ACTIONS[0],
        action_id=ACTIONS[0],
        propensity_ppb=PPB,
        draw_ppb=0,
        control=False,
        control_share_ppb=0,
        floor_ppb=0,
        support="full",
        mode="online",
        policy_id="main",
        epoch=0,
        version=0,
        policy_checksum="",
    )
    return OutcomeClosed(
        choice=choice,
        result="rewarded",
        result_reason="observed",
        source="explicit",
        reward_raw=0.0,
        reward=0.0,
        clipped=False,
        precision=1.0,
        closed_by="reactions",
        closed_at_ms=0,
        learnable=True,
        learnable_reason="",
    )


def _drawn(probabilities: Sequence[float], draw: float) -> int:
    """Return the action that a draw falls on; all who give probabilities are drawn from alike."""
    for place, probability in enumerate(probabilities):
        draw -= probability
        if draw < 0.0:
            return place
    return len(probabilities) - 1


class Pho:
    """One of PHO's policies, with the records it takes in the loop."""

    def __init__(self, algorithm: str, **numbers: float) -> None:
        self._policy: Policy = prior(_config(algorithm, numbers))
        self._outcome = _outcome()

    def given(self, contexts: Vector) -> list[Features]:
        """Return contexts as decisions carry them."""
        return [Features(dense=tuple(row)) for row in contexts.tolist()]

    def decide(self, context: Features, draw: float) -> int:
        """Draw from its probabilities."""
        return _drawn(self._policy.probabilities(context, ALL).tolist(), draw)

    def observed(self, context: Features, action: int, reward: float) -> OutcomeClosed:
        """Return an outcome as the log gives it."""
        place = ACTIONS[action]
        offer = (OfferedAction(place, True, PPB, PPB),)
        choice = replace(self._outcome.choice, features=context, action_id=place, actions=offer)
        return replace(self._outcome, choice=choice, reward=reward)

    def learn(self, observed: OutcomeClosed) -> None:
        """Learn one outcome."""
        self._policy = self._policy.learn(observed)

    def decide_many(self, contexts: list[Features], draws: Vector) -> Places:
        """Draw from many probabilities."""
        p = self._policy.probabilities_many(contexts, [ALL] * len(contexts))
        places: Places = (p.cumsum(axis=1) <= draws[:, None]).sum(axis=1)
        return np.minimum(places, N_ACTIONS - 1)

    def learn_many(self, observed: list[OutcomeClosed]) -> None:
        """Learn them all."""
        self._policy = self._policy.learn_many(observed)


class RiverLinUCB:
    """River's disjoint LinUCB."""

    def __init__(self) -> None:
        from river import bandit

        self._bandit: Any = bandit.LinUCBDisjoint(alpha=1.0, seed=1)
        self._arms = list(range(N_ACTIONS))

    def given(self, contexts: Vector) -> list[dict[str, float]]:
        """Return contexts as River's dictionaries."""
        return [dict(zip(NAMES, row, strict=True)) for row in contexts.tolist()]

    def decide(self, context: dict[str, float], draw: float) -> int:
        """Pull."""
        return int(self._bandit.pull(self._arms, context))

    def observed(self, context: Any, action: int, reward: float) -> Any:
        """Return the three."""
        return context, action, reward

    def learn(self, observed: Any) -> None:
        """Update the arm."""
        context, action, reward = observed
        self._bandit.update(action, context, reward)


class RiverBayes:
    """River's Bayesian regression for each action, an action by a draw from each (Thompson)."""

    def __init__(self) -> None:
        from river import linear_model

        beta = 1.0 / NOISE**2
        self._models: list[Any] = [
            linear_model.BayesianLinearRegression(alpha=1.0, beta=beta) for _ in ACTIONS
        ]
        self._noise = 1.0 / beta
        self._chance = random.Random(1)  # noqa: S311 - no secret

    given = RiverLinUCB.given
    observed = RiverLinUCB.observed

    def decide(self, context: dict[str, float], draw: float) -> int:
        """Draw from each posterior, and take the best."""
        scores = []
        for model in self._models:
            guess = model.predict_one(context, with_dist=True)
            deviation = max(guess.sigma**2 - self._noise, 0.0) ** 0.5
            scores.append(self._chance.gauss(guess.mu, deviation))
        return scores.index(max(scores))

    def learn(self, observed: Any) -> None:
        """Teach one action's model."""
        context, action, reward = observed
        self._models[action].learn_one(context, reward)


class VowpalWabbit:
    """VowpalWabbit, `cb_explore_adf`, with every feature crossed with the action."""

    def __init__(self, exploration: str) -> None:
        options = f"--cb_explore_adf {exploration} -q SA --random_seed 1 --quiet"
        self._workspace: Any = import_module("vowpalwabbit").Workspace(options)
        self._arms = [f"|A {action}" for action in ACTIONS]
        self._probabilities = [1.0 / N_ACTIONS] * N_ACTIONS

    def given(self, contexts: Vector) -> list[list[float]]:
        """Return contexts as numbers: to write VowpalWabbit's text is part of asking it."""
        return contexts.tolist()  # type: ignore[no-any-return]

    def _shared(self, context: list[float]) -> str:
        pairs = zip(NAMES, context, strict=True)
        return "shared |S " + " ".join([f"{name}:{value:.6g}" for name, value in pairs])

    def decide(self, context: list[float], draw: float) -> int:
        """Draw from its probabilities."""
        self._probabilities = self._workspace.predict([self._shared(context), *self._arms])
        return _drawn(self._probabilities, draw)

    def observed(self, context: Any, action: int, reward: float) -> Any:
        """Return the three, and the probability."""
        return context, action, reward, self._probabilities[action]

    def learn(self, observed: Any) -> None:
        """Learn a cost."""
        context, action, reward, probability = observed
        lines = [self._shared(context), *self._arms]
        lines[action + 1] = f"0:{-reward:.6g}:{probability:.6g} {lines[action + 1]}"
        self._workspace.learn(lines)


class MabWiser:
    """MABWiser's linear Thompson sampling."""

    def __init__(self) -> None:
        mab = import_module("mabwiser.mab")
        self._mab: Any = mab.MAB(
            list(range(N_ACTIONS)), mab.LearningPolicy.LinTS(alpha=NOISE), seed=1
        )
        nothing = np.zeros((N_ACTIONS, N_FEATURES))
        self._mab.fit(list(range(N_ACTIONS)), [0.0] * N_ACTIONS, nothing)

    def given(self, contexts: Vector) -> list[Vector]:
        """Return contexts as rows."""
        return list(contexts)

    observed = RiverLinUCB.observed

    def decide(self, context: Vector, draw: float) -> int:
        """Predict."""
        return int(self._mab.predict(context[None]))

    def learn(self, observed: Any) -> None:
        """Fit one more."""
        context, action, reward = observed
        self._mab.partial_fit([action], [reward], context[None])

    def decide_many(self, contexts: list[Vector], draws: Vector) -> Places:
        """Predict many."""
        return np.array(self._mab.predict(np.array(contexts)))

    def learn_many(self, observed: list[Any]) -> None:
        """Fit many."""
        contexts, actions, rewards = zip(*observed, strict=True)
        self._mab.partial_fit(list(actions), list(rewards), np.array(contexts))


@dataclass(frozen=True, slots=True)
class Contender:
    """One of those compared."""

    name: str
    """For a person to read."""
    make: Callable[[], Any]
    """Makes it."""
    group: str
    """``pho``, or whose it is."""
    batches: bool
    """Whether it takes many at once."""
    rounds_alone_max: int = 1_000_000
    """One by one only so many rounds are timed, where all would take hours; then no regret."""


_AS_OTHERS = {"alpha": 4.0, "beta": 4.0, "discount": 1.0}
"""MABWiser and River's LinUCB forget nothing, and add 1 to the diagonal where an observation of
PHO counts 4 (1 / noise squared): with these numbers the models are the same."""

CONTENDERS = (
    Contender("PHO thompson", lambda: Pho("thompson"), "pho", True),
    Contender("PHO thompson, as MABWiser", lambda: Pho("thompson", **_AS_OTHERS), "pho", True),
    Contender("PHO squarecb", lambda: Pho("squarecb"), "pho", True),
    Contender("PHO squarecb, no discount", lambda: Pho("squarecb", **_AS_OTHERS), "pho", True),
    Contender("PHO linucb, as River", lambda: Pho("linucb", width=2.0, **_AS_OTHERS), "pho", True),
    Contender("River LinUCBDisjoint", RiverLinUCB, "river", False),
    Contender("River Bayesian regressions", RiverBayes, "river", False),
    Contender("VowpalWabbit", lambda: VowpalWabbit(""), "vowpalwabbit", False),
    Contender("VowpalWabbit --squarecb", lambda: VowpalWabbit("--squarecb"), "vowpalwabbit", False),
    Contender("MABWiser LinTS", MabWiser, "mabwiser", True, rounds_alone_max=2_000),
)
