"""An apprentice: serves the baseline, watches what is done, and says how well it would do it.

For the time before anybody trusts a policy: nothing changes for a visitor, and the match says when
what was done so far is understood. It imitates by one linear regression per action on "was this
action taken" (the linear probability model: the largest of several regressions on indicators is a
linear classifier; Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from policies.base import (
    Eligibility,
    Vector,
    dense,
    eligible_places,
    from_named,
    frozen,
    one_by_one,
    to_named,
)
from policies.fixed import Fixed
from policies.linear import LinearPosterior
from policies.linear_policy import POSTERIOR, restored_posterior
from policies.parameters import Algorithm, read
from schemas.decisions import Features
from schemas.errors import SnapshotRefused
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import NamedArray, OutcomeClosed, PolicySnapshot

PARAMETERS = POSTERIOR
"""Those of the posterior; the discount is also how long the match remembers."""


@dataclass(frozen=True, slots=True, eq=False)
class Apprentice:
    """The baseline, always; beside it, what it would have done."""

    served: Fixed
    """What is done meanwhile."""
    posterior: LinearPosterior
    """For each action, how much speaks for its being taken."""
    watched: Vector
    """Shape (2,): choices watched, by weight and after forgetting, and those of them that it
    foretold."""

    algorithm: ClassVar[str] = "apprentice"
    support: ClassVar[Literal["full", "degenerate"]] = "degenerate"

    @property
    def actions(self) -> tuple[str, ...]:
        """Ids of the actions, in the order of the probabilities."""
        return self.served.actions

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in the order of the dense context."""
        return self.served.features

    @property
    def match(self) -> float:
        """Share of the choices that it foretold, 0..1; 0 before the first."""
        watched, foretold = self.watched.tolist()
        return foretold / watched if watched else 0.0

    def probabilities(self, context: Features, eligible: Sequence[bool]) -> Vector:
        """Return 1 for the baseline; where it is excluded, for the first eligible action."""
        return self.served.probabilities(context, eligible)

    def probabilities_many(self, contexts: Sequence[Features], eligible: Eligibility) -> Vector:
        """Return the same for many contexts."""
        return one_by_one(self, contexts, eligible)

    def would_choose(self, context: Features, eligible: Sequence[bool]) -> int:
        """Return the place of the action it would choose; of equal ones the first.

        Raises
        ------
        PolicyError
            When context or eligibility do not fit, or nothing is eligible.
        """
        places = eligible_places(eligible, len(self.actions))
        means, _ = self.posterior.estimates(dense(context, len(self.features)))
        return places[int(means[places].argmax())]

    def learn(self, outcome: OutcomeClosed) -> Apprentice:
        """Return the apprentice that has also watched this choice; its reward does not matter."""
        choice = outcome.choice
        weight = outcome.precision
        if weight == 0.0 or choice.action_id not in self.actions:
            return self
        x = dense(choice.features, len(self.features))
        taken = self.actions.index(choice.action_id)
        offered = {action.id: action.eligible for action in choice.actions}
        eligible = [offered.get(action, False) for action in self.actions]
        eligible[taken] = True
        # Where one action is all there is, to foretell it is no merit.
        counts = weight if sum(eligible) > 1 else 0.0
        foretold = self.would_choose(choice.features, eligible) == taken
        n_actions = len(self.actions)
        posterior = self.posterior.learn_many(
            np.arange(n_actions),
            np.broadcast_to(x, (n_actions, x.size)),
            (np.arange(n_actions) == taken).astype(np.float64),
            np.full(n_actions, weight),
        )
        keep = 1.0 - (1.0 - self.posterior.discount) * weight
        watched = self.watched * keep + (counts, counts * foretold)
        return Apprentice(self.served, posterior, frozen(watched))

    def learn_many(self, outcomes: Sequence[OutcomeClosed]) -> Apprentice:
        """Return the apprentice that has also watched these, in their order."""
        policy = self
        for outcome in outcomes:
            policy = policy.learn(outcome)
        return policy

    def snapshot_arrays(self) -> tuple[NamedArray, ...]:
        """Return ``baseline`` (1,), ``precisions``, ``moments`` and ``watched`` (2,)."""
        return (
            *self.served.snapshot_arrays(),
            to_named("precisions", self.posterior.precisions),
            to_named("moments", self.posterior.moments),
            to_named("watched", self.watched),
        )

    def with_actions(self, actions: Sequence[str]) -> Apprentice:
        """Return the apprentice for other actions; new ones start from the prior.

        Raises
        ------
        PolicyError
            When the baseline is not among them.
        """
        new = tuple(actions)
        if new == self.actions:
            return self
        old = {action: place for place, action in enumerate(self.actions)}
        posterior = self.posterior.with_actions([old.get(action) for action in new])
        return Apprentice(self.served.with_actions(new), posterior, self.watched)


def _prior(config: LoopConfigured, policy: PolicyConfigured) -> Apprentice:
    numbers = read(policy, PARAMETERS)
    actions, features = config.action_ids, config.feature_names
    served = Fixed(actions, features, actions.index(config.baseline_id))
    posterior = LinearPosterior.prior(len(actions), len(features), **numbers)
    return Apprentice(served, posterior, frozen(np.zeros(2)))


def _restore(
    snapshot: PolicySnapshot, _config: LoopConfigured, policy: PolicyConfigured
) -> Apprentice:
    numbers = read(policy, PARAMETERS)
    n_actions, size = len(snapshot.actions), len(snapshot.features)
    shapes = {
        "baseline": (1,),
        "precisions": (n_actions, size, size),
        "moments": (n_actions, size),
        "watched": (2,),
    }
    arrays = from_named(snapshot.arrays, shapes)
    place = float(arrays["baseline"][0])
    watched, foretold = arrays["watched"].tolist()
    if place not in range(n_actions) or not 0.0 <= foretold <= watched * (1.0 + 1e-9):
        problem = f"a snapshot says baseline {place}, {foretold} of {watched} choices foretold"
        raise SnapshotRefused(problem, "Take an earlier snapshot, or replay the outcomes")
    served = Fixed(snapshot.actions, snapshot.features, int(place))
    return Apprentice(served, restored_posterior(arrays, numbers), arrays["watched"])


ALGORITHM = Algorithm(prior=_prior, restore=_restore, parameters=PARAMETERS)
