"""Always the same action: what was there before PHO, and what a control share gets."""

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
    one_by_one,
    to_named,
)
from policies.parameters import Algorithm, read
from schemas.decisions import Features
from schemas.errors import PolicyError, SnapshotRefused
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import NamedArray, OutcomeClosed, PolicySnapshot


@dataclass(frozen=True, slots=True)
class Fixed:
    """The baseline, always; where it is excluded, the first eligible action."""

    actions: tuple[str, ...]
    """Ids of the actions, in the order of the probabilities."""
    features: tuple[str, ...]
    """Names of the features, which it does not look at."""
    baseline: int
    """Place of the baseline."""

    algorithm: ClassVar[str] = "fixed"
    support: ClassVar[Literal["full", "degenerate"]] = "degenerate"

    def probabilities(self, context: Features, eligible: Sequence[bool]) -> Vector:
        """Return 1 for one action."""
        dense(context, len(self.features))
        places = eligible_places(eligible, len(self.actions))
        result = np.zeros(len(self.actions))
        result[self.baseline if eligible[self.baseline] else places[0]] = 1.0
        return result

    def probabilities_many(self, contexts: Sequence[Features], eligible: Eligibility) -> Vector:
        """Return the same for many contexts."""
        return one_by_one(self, contexts, eligible)

    def learn(self, outcome: OutcomeClosed) -> Fixed:
        """Return this very policy."""
        return self

    def learn_many(self, outcomes: Sequence[OutcomeClosed]) -> Fixed:
        """Return this very policy."""
        return self

    def snapshot_arrays(self) -> tuple[NamedArray, ...]:
        """Return ``baseline`` (1,): its place."""
        return (to_named("baseline", np.array([float(self.baseline)])),)

    def with_actions(self, actions: Sequence[str]) -> Fixed:
        """Return the policy for other actions.

        Raises
        ------
        PolicyError
            When the baseline is not among them.
        """
        new = tuple(actions)
        baseline_id = self.actions[self.baseline]
        if baseline_id not in new:
            problem = f"the actions {list(new)[:8]} lack the baseline {baseline_id!r}"
            raise PolicyError(problem, "Start a new epoch with the new baseline")
        return Fixed(new, self.features, new.index(baseline_id))


def _prior(config: LoopConfigured, policy: PolicyConfigured) -> Fixed:
    read(policy, {})
    actions = config.action_ids
    return Fixed(actions, config.feature_names, actions.index(config.baseline_id))


def _restore(snapshot: PolicySnapshot, _config: LoopConfigured, policy: PolicyConfigured) -> Fixed:
    read(policy, {})
    place = float(from_named(snapshot.arrays, {"baseline": (1,)})["baseline"][0])
    if place not in range(len(snapshot.actions)):
        problem = f"a snapshot says that action {place} of {len(snapshot.actions)} is the baseline"
        raise SnapshotRefused(problem, "Take an earlier snapshot")
    return Fixed(snapshot.actions, snapshot.features, int(place))


ALGORITHM = Algorithm(prior=_prior, restore=_restore)
