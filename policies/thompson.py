"""Thompson sampling over linear regressions: PHO's default.

An action is as probable as it is to be the best, given what was seen: certain ones are taken,
uncertain ones tried, bad ones left, without a setting for how much to explore.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from policies.base import Vector
from policies.linear_policy import POSTERIOR, LinearPolicy, algorithm
from policies.thompson_batches import best_probabilities_many
from policies.thompson_probabilities import best_probabilities

PARAMETERS = POSTERIOR
"""Those of the posterior; how much to explore follows from them."""


@dataclass(frozen=True, slots=True, eq=False)
class Thompson(LinearPolicy):
    """Each action with the probability that it is the best in this context."""

    algorithm: ClassVar[str] = "thompson"

    def _share(self, means: Vector, variances: Vector) -> Vector:
        return best_probabilities(means, np.sqrt(variances))

    def _shares(self, means: Vector, variances: Vector) -> Vector:
        return best_probabilities_many(means, np.sqrt(variances))


ALGORITHM = algorithm(Thompson, PARAMETERS)
