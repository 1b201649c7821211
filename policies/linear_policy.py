"""What all policies over linear regressions share: they differ in how estimates become shares.

One Bayesian linear regression per action (`policies.linear`) says what each action is expected to
earn and how sure that is. An algorithm adds one method, `_shares`: from means and variances to
probabilities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from policies.base import (
    Eligibility,
    Vector,
    dense,
    dense_many,
    eligible_groups,
    eligible_places,
    from_named,
    to_named,
)
from policies.linear import LinearPosterior
from policies.parameters import Algorithm, Known, read
from schemas.decisions import Features
from schemas.errors import SnapshotRefused
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import NamedArray, OutcomeClosed, PolicySnapshot

POSTERIOR = {
    "alpha": Known(default=1.0, low=1e-6, high=1e6),
    "beta": Known(default=4.0, low=1e-6, high=1e6),
    # About the last 2,000 certain reactions to a greeting count: 1 / (1 - 0.9995).
    "discount": Known(default=0.9995, low=0.5, high=1.0),
}
"""alpha: precision of the prior; beta: precision of a reward; discount: what remains of the past
after one certain observation (1 forgets nothing)."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearPolicy(ABC):
    """A policy that knows of each action what a linear regression says."""

    actions: tuple[str, ...]
    """Ids of the actions, in the order of the probabilities."""
    features: tuple[str, ...]
    """Names of the features, in the order of the dense context."""
    posterior: LinearPosterior
    """What is known of each action."""

    algorithm: ClassVar[str]
    support: ClassVar[Literal["full", "degenerate"]] = "full"

    @abstractmethod
    def _shares(self, means: Vector, variances: Vector) -> Vector:
        """Return the probabilities of actions from what they are expected to earn.

        A row must come out the same, to the last bit, whichever rows stand beside it.

        Parameters
        ----------
        means, variances : ndarray of float64, shape (n_contexts, n_eligible)

        Returns
        -------
        ndarray of float64, shape (n_contexts, n_eligible)
            Each row adds up to 1.
        """

    def _share(self, means: Vector, variances: Vector) -> Vector:
        """Return the same for one context, shape (n_eligible,)."""
        result: Vector = self._shares(means[None], variances[None])[0]
        return result

    def probabilities(self, context: Features, eligible: Sequence[bool]) -> Vector:
        """Return the probability of each action in a context."""
        places = eligible_places(eligible, len(self.actions))
        means, variances = self.posterior.estimates(dense(context, len(self.features)))
        if len(places) == len(self.actions):
            return self._share(means, variances)
        result = np.zeros(len(self.actions))
        result[places] = self._share(means[places], variances[places])
        return result

    def probabilities_many(self, contexts: Sequence[Features], eligible: Eligibility) -> Vector:
        """Return the probabilities in many contexts, with the bytes of one by one."""
        groups = eligible_groups(eligible, len(contexts), len(self.actions))
        means, variances = self.posterior.estimates_many(dense_many(contexts, len(self.features)))
        result = np.zeros(means.shape)
        for rows, places in groups:
            if len(places) == len(self.actions):
                result[rows] = self._shares(means[rows], variances[rows])
            else:
                cells = np.ix_(rows, np.array(places))
                result[cells] = self._shares(means[cells], variances[cells])
        return result

    def learn(self, outcome: OutcomeClosed) -> Self:
        """Return the policy that has also seen this outcome, weighed by its precision."""
        choice = outcome.choice
        if outcome.precision == 0.0 or choice.action_id not in self.actions:
            return self
        x = dense(choice.features, len(self.features))
        action = self.actions.index(choice.action_id)
        posterior = self.posterior.learn(action, x, outcome.reward, outcome.precision)
        return self._after(posterior, ((action, outcome.precision),))

    def learn_many(self, outcomes: Sequence[OutcomeClosed]) -> Self:
        """Return the policy that has also seen these, with the bytes of one by one."""
        place = {action: at for at, action in enumerate(self.actions)}
        seen = [x for x in outcomes if x.precision != 0.0 and x.choice.action_id in place]
        if not seen:
            return self
        actions = [place[outcome.choice.action_id] for outcome in seen]
        weights = [outcome.precision for outcome in seen]
        posterior = self.posterior.learn_many(
            np.array(actions),
            dense_many([outcome.choice.features for outcome in seen], len(self.features)),
            np.array([outcome.reward for outcome in seen]),
            np.array(weights),
        )
        return self._after(posterior, tuple(zip(actions, weights, strict=True)))

    def _after(self, posterior: LinearPosterior, observed: Sequence[tuple[int, float]]) -> Self:
        """Return the policy with a posterior that also saw actions with weights, in order."""
        return replace(self, posterior=posterior)

    def snapshot_arrays(self) -> tuple[NamedArray, ...]:
        """Return ``precisions`` (n_actions, d, d), ``moments`` (n_actions, d), and more."""
        more = [to_named(name, getattr(self, name)) for name in self.more_arrays(0)]
        return (
            to_named("precisions", self.posterior.precisions),
            to_named("moments", self.posterior.moments),
            *more,
        )

    def with_actions(self, actions: Sequence[str]) -> Self:
        """Return the policy for other actions; new ones start from the prior."""
        new = tuple(actions)
        if new == self.actions:
            return self
        old = {action: place for place, action in enumerate(self.actions)}
        places = [old.get(action) for action in new]
        more: dict[str, Any] = self.more_arrays(len(new))
        for name, array in more.items():
            for now, before in enumerate(places):
                if before is not None:
                    array[now] = getattr(self, name)[before]
        posterior = self.posterior.with_actions(places)
        return replace(self, actions=new, posterior=posterior, **more)

    @classmethod
    def more_arrays(cls, n_actions: int) -> dict[str, Vector]:
        """Return what it knows beside the posterior, by field, one number per action: the prior."""
        return {}


def algorithm(kind: type[LinearPolicy], parameters: Mapping[str, Known]) -> Algorithm:
    """Return how the policies of one kind are made.

    Parameters
    ----------
    kind : type of LinearPolicy
        Its fields beside those of `LinearPolicy` are parameters, or named by `more_arrays`.
    parameters : mapping of name to Known
        Those of the posterior and its own.
    """

    def prior(config: LoopConfigured, policy: PolicyConfigured) -> LinearPolicy:
        numbers, own = _numbers(policy, parameters)
        features, n_actions = config.feature_names, len(config.actions)
        posterior = LinearPosterior.prior(n_actions, len(features), **numbers)
        return kind(config.action_ids, features, posterior, **kind.more_arrays(n_actions), **own)

    def restore(
        snapshot: PolicySnapshot, _config: LoopConfigured, policy: PolicyConfigured
    ) -> LinearPolicy:
        numbers, own = _numbers(policy, parameters)
        n_actions, size = len(snapshot.actions), len(snapshot.features)
        more = {name: array.shape for name, array in kind.more_arrays(n_actions).items()}
        shapes = {"precisions": (n_actions, size, size), "moments": (n_actions, size)}
        arrays = from_named(snapshot.arrays, {**shapes, **more})
        posterior = restored_posterior(arrays, numbers)
        kept = {name: arrays[name] for name in more}
        return kind(snapshot.actions, snapshot.features, posterior, **kept, **own)

    return Algorithm(prior, restore, parameters)


def restored_posterior(
    arrays: Mapping[str, Vector], numbers: Mapping[str, float]
) -> LinearPosterior:
    """Return the posterior of a snapshot's ``precisions`` and ``moments``.

    Raises
    ------
    SnapshotRefused
        When a precision matrix cannot be one.
    """
    precisions = arrays["precisions"]
    n_actions, size = arrays["moments"].shape
    if not (precisions.reshape(n_actions, -1)[:, :: size + 1] > 0.0).all():
        problem = "a precision matrix of a snapshot has no positive diagonal"
        raise SnapshotRefused(problem, "Take an earlier snapshot, or replay the outcomes")
    return LinearPosterior(precisions, arrays["moments"], **numbers)


def _numbers(
    policy: PolicyConfigured, known: Mapping[str, Known]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the parameters of the posterior, and the algorithm's own."""
    numbers = read(policy, known)
    return {name: numbers.pop(name) for name in POSTERIOR}, dict(numbers)
