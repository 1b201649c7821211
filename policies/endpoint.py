"""A model elsewhere decides, where it answered in time; else the loop's own policy does.

Nothing is asked here: policies are pure. The probabilities were asked for beside the analysis,
stand in FrameAnalyzed as labels, and reach the policy as features of its context:
``label.score.ACTION`` for each action, and ``label.scored``, 1 where the endpoint answered and 0
where not. So the logged features of a decision say which of the two it was, and a replay decides
the same without asking anybody (docs/decisions: scores from an endpoint).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from policies.base import Eligibility, Policy, Vector, dense, eligible_places, one_by_one
from policies.parameters import Algorithm
from schemas.decisions import Features
from schemas.errors import SettingsError
from schemas.features import features_hash
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import NamedArray, OutcomeClosed, PolicySnapshot

PREFIX = "endpoint:"
"""Before the algorithm that decides where the endpoint did not answer: ``endpoint:thompson``."""

SCORED = "label.scored"
"""The feature that says whether the endpoint answered: 1 or 0."""

_SCORE = "label.score."


def score_feature(action_id: str) -> str:
    """Return the feature that has the endpoint's probability of an action."""
    return _SCORE + action_id


def is_score(name: str) -> bool:
    """Whether a feature is made of what the endpoint said."""
    return any(part == SCORED or part.startswith(_SCORE) for part in name.split(":"))


def feature_names(action_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the features that a loop with such a policy needs beside its own."""
    return (SCORED, *map(score_feature, action_ids))


@dataclass(frozen=True, slots=True, eq=False)
class EndpointPolicy:
    """The endpoint's probabilities where there are some; else those of the policy within.

    The one within learns from every outcome, whoever decided, and sees the loop's other features
    only: with the endpoint away, its scores would be zeros that mean nothing.
    """

    inner: Policy
    """Decides where the endpoint did not."""
    features: tuple[str, ...]
    """Names of all the features, in the order of the dense context."""

    support: ClassVar[Literal["full", "degenerate"]] = "full"

    @property
    def algorithm(self) -> str:
        """Name of the algorithm, such as ``endpoint:thompson``."""
        return PREFIX + self.inner.algorithm

    @property
    def actions(self) -> tuple[str, ...]:
        """Ids of the actions, in the order of the probabilities."""
        return self.inner.actions

    def scored(self, context: Features) -> bool:
        """Whether the endpoint answered for this context."""
        x = dense(context, len(self.features))
        return SCORED in self.features and bool(x[self.features.index(SCORED)] >= 0.5)

    def probabilities(self, context: Features, eligible: Sequence[bool]) -> Vector:
        """Return what the endpoint said, scaled to the eligible actions; else what `inner` says.

        An endpoint that gives an action no chance, and all others are excluded, said nothing.
        """
        x = dense(context, len(self.features))
        places = eligible_places(eligible, len(self.actions))
        if SCORED in self.features and x[self.features.index(SCORED)] >= 0.5:
            result = np.zeros(len(self.actions))
            for place in places:
                name = score_feature(self.actions[place])
                if name in self.features:
                    result[place] = max(0.0, x[self.features.index(name)])
            total = float(result.sum())
            if total > 0.0:
                return result / total
        return self.inner.probabilities(self._own(x), eligible)

    def probabilities_many(self, contexts: Sequence[Features], eligible: Eligibility) -> Vector:
        """Return the same for many contexts."""
        return one_by_one(self, contexts, eligible)

    def learn(self, outcome: OutcomeClosed) -> EndpointPolicy:
        """Return the policy whose inner one has also learned from an outcome."""
        inner = self.inner.learn(self._own_outcome(outcome))
        return self if inner is self.inner else EndpointPolicy(inner, self.features)

    def learn_many(self, outcomes: Sequence[OutcomeClosed]) -> EndpointPolicy:
        """Return the policy whose inner one has learned outcomes in their order."""
        inner = self.inner.learn_many([self._own_outcome(outcome) for outcome in outcomes])
        return self if inner is self.inner else EndpointPolicy(inner, self.features)

    def snapshot_arrays(self) -> tuple[NamedArray, ...]:
        """Return the arrays of the policy within: what the endpoint knows is its own."""
        return self.inner.snapshot_arrays()

    def with_actions(self, actions: Sequence[str]) -> EndpointPolicy:
        """Return the policy for other actions."""
        inner = self.inner.with_actions(actions)
        return self if inner is self.inner else EndpointPolicy(inner, self.features)

    def _own(self, x: Vector) -> Features:
        own = [place for place, name in enumerate(self.features) if not is_score(name)]
        return Features(dense=tuple(x[own].tolist()))

    def _own_outcome(self, outcome: OutcomeClosed) -> OutcomeClosed:
        own = self._own(dense(outcome.choice.features, len(self.features)))
        return replace(outcome, choice=replace(outcome.choice, features=own))


def hosted(inner: Algorithm) -> Algorithm:
    """Return how policies are made that decide with an endpoint, and with `inner` without it."""

    def prior(config: LoopConfigured, policy: PolicyConfigured) -> EndpointPolicy:
        _check(config, policy)
        made = inner.prior(_own_config(config), _own_policy(policy))
        return _checked(made, config, policy)

    def restore(
        snapshot: PolicySnapshot, config: LoopConfigured, policy: PolicyConfigured
    ) -> EndpointPolicy:
        own = _own_config(config)
        within = replace(
            snapshot,
            algorithm=snapshot.algorithm.removeprefix(PREFIX),
            features=own.feature_names,
            features_hash=own.features_hash,
        )
        made = inner.restore(within, own, _own_policy(policy))
        return _checked(made, config, policy)

    return Algorithm(prior, restore, inner.parameters)


def _check(config: LoopConfigured, policy: PolicyConfigured) -> None:
    if odd := [each for each in config.action_ids if ":" in each]:
        problem = f"policy {policy.policy_id!r} asks an endpoint about the action {odd[0]!r}"
        raise SettingsError(problem, "A colon means a product in a feature's name: rename it")
    missing = [n for n in feature_names(config.action_ids) if n not in config.feature_names]
    if missing:
        problem = f"policy {policy.policy_id!r} asks an endpoint, and its scores have no place"
        names = ", ".join(f'"{name}"' for name in missing)
        raise SettingsError(problem, f"Add to the features of loop {config.loop_id!r}: {names}")


def _checked(made: Policy, config: LoopConfigured, policy: PolicyConfigured) -> EndpointPolicy:
    if made.support != "full":
        problem = f"policy {policy.policy_id!r} hosts {made.algorithm}, which takes one action only"
        raise SettingsError(problem, "Host one that explores, such as endpoint:thompson")
    return EndpointPolicy(made, config.feature_names)


def _own_config(config: LoopConfigured) -> LoopConfigured:
    names = tuple(name for name in config.feature_names if not is_score(name))
    return replace(config, feature_names=names, features_hash=features_hash(names))


def _own_policy(policy: PolicyConfigured) -> PolicyConfigured:
    return replace(policy, algorithm=policy.algorithm.removeprefix(PREFIX))
