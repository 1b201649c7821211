"""SquareCB: inverse-gap weighting, the less probable the farther an action is behind the best.

Of K eligible actions with expected rewards m, the best one b (Foster and Rakhlin, "Beyond UCB",
2020, algorithm 1, with mu = K)::

    p(a) = 1 / (K + gamma (m(b) - m(a)))   for a other than b
    p(b) = what remains, so that the sum adds up

gamma grows with what was learned, as in VowpalWabbit: ``scale n**exponent`` after n observations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from policies.base import Vector, frozen
from policies.linear import LinearPosterior
from policies.linear_policy import POSTERIOR, LinearPolicy, algorithm
from policies.parameters import Known

PARAMETERS = {
    **POSTERIOR,
    "scale": Known(default=10.0, low=1e-3, high=1e6),
    "exponent": Known(default=0.5, low=0.0, high=1.0),
}
"""scale: gamma after one observation; exponent: how it grows with their number (0: it does not)."""


@dataclass(frozen=True, slots=True, eq=False)
class SquareCB(LinearPolicy):
    """Each action with a probability that falls with its gap to the best."""

    seen: Vector
    """Observations of each action, by their weight and after forgetting, shape (n_actions,)."""
    scale: float
    """gamma after one observation."""
    exponent: float
    """How gamma grows with the number of observations."""

    algorithm: ClassVar[str] = "squarecb"

    @property
    def gamma(self) -> float:
        """How strongly a gap counts."""
        n_seen = max(1.0, float(self.seen.sum()))
        return self.scale * math.pow(n_seen, self.exponent)

    def _shares(self, means: Vector, variances: Vector) -> Vector:
        n_rows, n_eligible = means.shape
        rows, best = np.arange(n_rows), means.argmax(axis=1)
        shares: Vector = 1.0 / (n_eligible + self.gamma * (means[rows, best][:, None] - means))
        shares[rows, best] = 0.0
        # The rest goes to the best, so that rounding makes no sum of 1 + 1e-16.
        shares[rows, best] = 1.0 - shares.sum(axis=1)
        return shares

    def _after(self, posterior: LinearPosterior, observed: Sequence[tuple[int, float]]) -> Self:
        seen = self.seen.tolist()
        for action, weight in observed:
            seen[action] = seen[action] * (1.0 - (1.0 - posterior.discount) * weight) + weight
        return replace(self, posterior=posterior, seen=frozen(np.array(seen)))

    @classmethod
    def more_arrays(cls, n_actions: int) -> dict[str, Vector]:
        """Return ``seen`` (n_actions,), all 0."""
        return {"seen": np.zeros(n_actions)}


ALGORITHM = algorithm(SquareCB, PARAMETERS)
