"""Every eligible action alike: the policy that learns nothing, to compare others with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from policies.base import Eligibility, Vector, dense, eligible_places, from_named, one_by_one
from policies.parameters import Algorithm, read
from schemas.decisions import Features
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import NamedArray, OutcomeClosed, PolicySnapshot


@dataclass(frozen=True, slots=True)
class Uniform:
    """Each eligible action with the same probability."""

    actions: tuple[str, ...]
    """Ids of the actions, in the order of the probabilities."""
    features: tuple[str, ...]
    """Names of the features, which it does not look at."""

    algorithm: ClassVar[str] = "uniform"
    support: ClassVar[Literal["full", "degenerate"]] = "full"

    def probabilities(self, context: Features, eligible: Sequence[bool]) -> Vector:
        """Return 1 / K for each of the K eligible actions."""
        dense(context, len(self.features))
        places = eligible_places(eligible, len(self.actions))
        result = np.zeros(len(self.actions))
        result[places] = 1.0 / len(places)
        return result

    def probabilities_many(self, contexts: Sequence[Features], eligible: Eligibility) -> Vector:
        """Return the same for many contexts."""
        return one_by_one(self, contexts, eligible)

    def learn(self, outcome: OutcomeClosed) -> Uniform:
        """Return this very policy."""
        return self

    def learn_many(self, outcomes: Sequence[OutcomeClosed]) -> Uniform:
        """Return this very policy."""
        return self

    def snapshot_arrays(self) -> tuple[NamedArray, ...]:
        """Return no array: there is nothing to know."""
        return ()

    def with_actions(self, actions: Sequence[str]) -> Uniform:
        """Return the policy for other actions."""
        return Uniform(tuple(actions), self.features)


def _prior(config: LoopConfigured, policy: PolicyConfigured) -> Uniform:
    read(policy, {})
    return Uniform(config.action_ids, config.feature_names)


def _restore(
    snapshot: PolicySnapshot, _config: LoopConfigured, policy: PolicyConfigured
) -> Uniform:
    read(policy, {})
    from_named(snapshot.arrays, {})
    return Uniform(snapshot.actions, snapshot.features)


ALGORITHM = Algorithm(prior=_prior, restore=_restore)
