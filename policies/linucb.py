"""LinUCB: always the action that could earn most, within what is still uncertain.

The disjoint model of Li, Chu, Langford and Schapire, "A contextual-bandit approach to personalized
news article recommendation" (2010), algorithm 1: the largest of mean + width * deviation is taken.
The choice is deterministic, so a log of it alone could not be evaluated: the loop must have an
exploration floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from policies.base import Policy, Vector
from policies.linear_policy import POSTERIOR, LinearPolicy, algorithm
from policies.parameters import Algorithm, Known
from schemas.errors import SettingsError
from schemas.loops import LoopConfigured, PolicyConfigured

PARAMETERS = {**POSTERIOR, "width": Known(default=1.0, low=0.0, high=100.0)}
"""width: how many standard deviations above its mean an action is believed to earn."""


@dataclass(frozen=True, slots=True, eq=False)
class LinUCB(LinearPolicy):
    """Probability 1 for the largest upper bound; equal ones share it.

    Support is ``full`` since the loop's exploration floor is mixed in afterwards.
    """

    width: float
    """Standard deviations between mean and upper bound."""

    algorithm: ClassVar[str] = "linucb"

    def _shares(self, means: Vector, variances: Vector) -> Vector:
        bounds = means + self.width * np.sqrt(variances)
        best = bounds == bounds.max(axis=1, keepdims=True)
        shares: Vector = best / best.sum(axis=1, keepdims=True)
        return shares


_LINEAR = algorithm(LinUCB, PARAMETERS)


def _prior(config: LoopConfigured, policy: PolicyConfigured) -> Policy:
    if not config.floor_ppb:
        problem = f"policy {policy.policy_id!r} of loop {config.loop_id!r} is linucb with floor = 0"
        cure = "Give the loop a floor above 0: LinUCB always takes what could be best"
        raise SettingsError(problem, cure)
    return _LINEAR.prior(config, policy)


ALGORITHM = Algorithm(_prior, _LINEAR.restore, PARAMETERS)
