"""Softmax (Boltzmann exploration): the more an action is expected to earn, the more probable.

Probabilities follow the expectations alone, not how sure they are (Sutton and Barto,
"Reinforcement Learning", section 2.8, with the estimates of a regression as preferences).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from policies.base import Vector
from policies.linear_policy import POSTERIOR, LinearPolicy, algorithm
from policies.parameters import Known

PARAMETERS = {**POSTERIOR, "temperature": Known(default=0.05, low=1e-3, high=1e3)}
"""temperature: the difference in expected reward that makes an action e times as probable."""


@dataclass(frozen=True, slots=True, eq=False)
class Softmax(LinearPolicy):
    """Each action in proportion to exp(expected reward / temperature)."""

    temperature: float
    """The difference in expected reward that makes an action e times as probable."""

    algorithm: ClassVar[str] = "softmax"

    def _shares(self, means: Vector, variances: Vector) -> Vector:
        # Less the largest first: exp of 1,000 is infinite, of -1,000 only 0.
        shares: Vector = np.exp((means - means.max(axis=1, keepdims=True)) / self.temperature)
        shares /= shares.sum(axis=1, keepdims=True)
        return shares


ALGORITHM = algorithm(Softmax, PARAMETERS)
