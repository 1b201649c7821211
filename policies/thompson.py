"""Thompson sampling over linear regressions: PHO's default.

An action is as probable as it is to be the best, given what was seen: certain ones are taken,
uncertain ones tried, bad ones left, without a setting for how much to explore.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from policies.base import Vector, dense, eligible_places, from_named, to_named
from policies.linear import LinearPosterior
from policies.parameters import Algorithm, Known, read
from policies.thompson_probabilities import best_probabilities
from schemas.decisions import Features
from schemas.errors import SnapshotRefused
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import NamedArray, OutcomeClosed, PolicySnapshot

PARAMETERS = {
    "alpha": Known(default=1.0, low=1e-6, high=1e6),
    "beta": Known(default=4.0, low=1e-6, high=1e6),
    # About the last 2,000 certain reactions to a greeting count: 1 / (1 - 0.9995).
    "discount": Known(default=0.9995, low=0.5, high=1.0),
}
"""alpha: precision of the prior; beta: precision of a reward; discount: what remains of the past
after one certain observation (1 forgets nothing)."""


@dataclass(frozen=True, slots=True, eq=False)
class Thompson:
    """Each action with the probability that it is the best in this context."""

    actions: tuple[str, ...]
    """Ids of the actions, in the order of the probabilities."""
    features: tuple[str, ...]
    """Names of the features, in the order of the dense context."""
    posterior: LinearPosterior
    """What is known of each action."""

    algorithm: ClassVar[str] = "thompson"
    support: ClassVar[Literal["full", "degenerate"]] = "full"

    def probabilities(self, context: Features, eligible: Sequence[bool]) -> Vector:
        """Return the exact probability of each eligible action to be the best of them."""
        places = eligible_places(eligible, len(self.actions))
        means, variances = self.posterior.estimates(dense(context, len(self.features)))
        deviations = np.sqrt(variances)
        if len(places) == len(self.actions):
            return best_probabilities(means, deviations)
        result = np.zeros(len(self.actions))
        result[places] = best_probabilities(means[places], deviations[places])
        return result

    def learn(self, outcome: OutcomeClosed) -> Thompson:
        """Return the policy that has also seen this outcome, weighed by its precision."""
        choice = outcome.choice
        if choice.action_id not in self.actions or outcome.precision == 0.0:
            return self
        x = dense(choice.features, len(self.features))
        action = self.actions.index(choice.action_id)
        posterior = self.posterior.learn(action, x, outcome.reward, outcome.precision)
        return Thompson(self.actions, self.features, posterior)

    def snapshot_arrays(self) -> tuple[NamedArray, ...]:
        """Return ``precisions`` (n_actions, d, d) and ``moments`` (n_actions, d)."""
        return (
            to_named("precisions", self.posterior.precisions),
            to_named("moments", self.posterior.moments),
        )

    def with_actions(self, actions: Sequence[str]) -> Thompson:
        """Return the policy for other actions; new ones start from the prior."""
        new = tuple(actions)
        if new == self.actions:
            return self
        old = {action: place for place, action in enumerate(self.actions)}
        posterior = self.posterior.with_actions([old.get(action) for action in new])
        return Thompson(new, self.features, posterior)


def _prior(config: LoopConfigured, policy: PolicyConfigured) -> Thompson:
    numbers = read(policy, PARAMETERS)
    features = config.feature_names
    posterior = LinearPosterior.prior(len(config.actions), len(features), **numbers)
    return Thompson(config.action_ids, features, posterior)


def _restore(
    snapshot: PolicySnapshot, _config: LoopConfigured, policy: PolicyConfigured
) -> Thompson:
    numbers = read(policy, PARAMETERS)
    n_actions, size = len(snapshot.actions), len(snapshot.features)
    arrays = from_named(
        snapshot.arrays, {"precisions": (n_actions, size, size), "moments": (n_actions, size)}
    )
    precisions = arrays["precisions"]
    if not (precisions.reshape(n_actions, -1)[:, :: size + 1] > 0.0).all():
        problem = "a precision matrix of a snapshot has no positive diagonal"
        raise SnapshotRefused(problem, "Take an earlier snapshot, or replay the outcomes")
    posterior = LinearPosterior(precisions, arrays["moments"], **numbers)
    return Thompson(snapshot.actions, snapshot.features, posterior)


ALGORITHM = Algorithm(prior=_prior, restore=_restore)
