"""What a decision is expected to earn, from the past alone: the doubly robust estimate's model.

A model that had seen the reward it predicts would lend the estimate its own error. This one learns
a record only after everybody has used it, in bundles, since a prediction after each new record
would invert the precision matrix of each action each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from policies.base import Vector, dense
from policies.evaluation.records import Logged
from policies.linear import LinearPosterior
from schemas.errors import PolicyError

_BUNDLE = 32
_FEATURES_MAX = 128
"""Above, a full precision matrix costs more than the estimate is worth: the model stays at half."""

_Key = tuple[str, int, tuple[str, ...]]


@dataclass(slots=True)
class RewardModel:
    """One Bayesian linear regression per action over the logged context, fitted on the past."""

    _posteriors: dict[_Key, LinearPosterior] = field(default_factory=dict)
    _waiting: list[tuple[_Key, Vector, int, float]] = field(default_factory=list)

    def expects(self, record: Logged) -> Vector:
        """Return the expected reward of every action in a record's context.

        Returns
        -------
        ndarray of float64, shape (n_actions,)
            As parts of the reward's range, 0..1; a half where nothing is known.
        """
        found = _context(record)
        posterior = self._posteriors.get(found[0]) if found else None
        if found is None or posterior is None:
            return np.full(record.probabilities.size, 0.5)
        means, _ = posterior.estimates(found[1])
        return np.minimum(np.maximum(means + 0.5, 0.0), 1.0)

    def learn(self, record: Logged) -> None:
        """Take a record whose value has been estimated."""
        found = _context(record)
        if found is None:
            return
        self._waiting.append((found[0], found[1], record.index, record.reward - 0.5))
        if len(self._waiting) >= _BUNDLE:
            self._fit()

    def _fit(self) -> None:
        for key, x, index, reward in self._waiting:
            posterior = self._posteriors.get(key)
            if posterior is None:
                posterior = LinearPosterior.prior(len(key[2]), x.size)
            self._posteriors[key] = posterior.learn(index, x, reward, 1.0)
        self._waiting.clear()


def _context(record: Logged) -> tuple[_Key, Vector] | None:
    choice = record.outcome.choice
    size = len(choice.features.dense)
    if not 0 < size <= _FEATURES_MAX:
        return None
    try:
        x = dense(choice.features, size)
    except PolicyError:
        return None
    return (choice.features_hash, size, record.action_ids), x
