"""Epsilon-greedy: mostly the action expected to earn most, now and then any.

The simplest rule that learns (Sutton and Barto, "Reinforcement Learning", section 2.2); it explores
what is known to be bad as often as what is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policies.base import Vector
from policies.linear_policy import POSTERIOR, LinearPolicy, algorithm
from policies.parameters import Known

PARAMETERS = {**POSTERIOR, "epsilon": Known(default=0.1, low=1e-6, high=1.0)}
"""epsilon: the share spread evenly over all eligible actions."""


@dataclass(frozen=True, slots=True, eq=False)
class EpsilonGreedy(LinearPolicy):
    """The best expectation, but for a share that is spread evenly; equal ones share alike."""

    epsilon: float
    """The share that is spread evenly, above 0, at most 1."""

    algorithm: ClassVar[str] = "epsilon_greedy"

    def _shares(self, means: Vector, variances: Vector) -> Vector:
        best = means == means.max(axis=1, keepdims=True)
        shares: Vector = best * ((1.0 - self.epsilon) / best.sum(axis=1, keepdims=True))
        shares += self.epsilon / means.shape[1]
        return shares


ALGORITHM = algorithm(EpsilonGreedy, PARAMETERS)
