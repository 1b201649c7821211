"""One Bayesian linear regression per action, with bytes that repeat on every machine.

For each action, over contexts x with rewards y and weights w (Bishop, "Pattern Recognition and
Machine Learning", equations 3.50 and 3.51, in natural parameters)::

    precision = alpha I + sum of beta w x x'
    moment    =           sum of beta w y x
    mean = inverse(precision) moment        variance of x'theta = x' inverse(precision) x

The state is precision and moment. Whoever learns only adds and multiplies, element by element, in
an order fixed here: a matrix product (BLAS) gives other last digits with another processor. Means
and covariances are derived from the state when asked for, never carried along, so that a policy
restored from its snapshot says what the one before the restart said, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from policies.base import Vector

_PIVOT_FLOOR = 1e-14
"""Smallest pivot, as a part of its diagonal element: below that, rounding has eaten it, and a
pivot of 0 or less would make infinite or negative variances."""


class Derived(NamedTuple):
    """What follows from the state. Actions come last, so that sums run along memory rows."""

    means: Vector
    """Mean weights, shape (n_features, n_actions)."""
    covariances: Vector
    """Covariance of the weights, shape (n_features * n_features, n_actions)."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearPosterior:
    """What is known of every action's weights."""

    precisions: Vector
    """Precision matrices, shape (n_actions, n_features, n_features)."""
    moments: Vector
    """Precision times mean, shape (n_actions, n_features)."""
    alpha: float
    """Precision of the prior, which is Gaussian around 0: 1 / variance of each weight."""
    beta: float
    """Precision of one observation of weight 1: 1 / variance of its noise."""
    discount: float
    """What remains of the past after an observation of weight 1, 0..1; 1 forgets nothing."""
    _derived: Derived | None = field(default=None, init=False, repr=False)

    @classmethod
    def prior(
        cls,
        n_actions: int,
        n_features: int,
        alpha: float = 1.0,
        beta: float = 4.0,
        discount: float = 1.0,
    ) -> LinearPosterior:
        """Return the state before the first observation; beta 4 is noise of 0.5 in -1..1."""
        precisions = np.zeros((n_actions, n_features, n_features))
        precisions[:, range(n_features), range(n_features)] = alpha
        moments = np.zeros((n_actions, n_features))
        return cls(_frozen(precisions), _frozen(moments), alpha, beta, discount)

    def learn(self, action: int, x: Vector, reward: float, weight: float) -> LinearPosterior:
        """Return the state after one more observation.

        It forgets towards the prior, of this action only, and in proportion to its weight.
        Forgetting towards nothing let a covariance grow to 1e26 where one direction of x never
        came (measured); forgetting all actions would return the rarely shown to the prior, and
        explore them for ever.

        Parameters
        ----------
        action : int
            Place of the action.
        x : ndarray of float64, shape (n_features,)
            The context.
        reward : float
            What it earned.
        weight : float
            How sure the observation is, 0..1.
        """
        precisions, moments = self.precisions.copy(), self.moments.copy()
        precision, moment = precisions[action], moments[action]
        if self.discount < 1.0:
            keep = 1.0 - (1.0 - self.discount) * weight
            precision *= keep
            moment *= keep
            precision.ravel()[:: x.size + 1] += (1.0 - keep) * self.alpha
        scaled = x * (self.beta * weight)
        precision += scaled[:, None] * x
        moment += scaled * reward
        return self._with(precisions, moments)

    def estimates(self, x: Vector) -> tuple[Vector, Vector]:
        """Return mean and variance of every action's expected reward in a context.

        Parameters
        ----------
        x : ndarray of float64, shape (n_features,)
            The context.

        Returns
        -------
        means : ndarray of float64, shape (n_actions,)
        variances : ndarray of float64, shape (n_actions,)
            Of the expected reward, without the noise of one observation; at least 0, at most what
            the prior says.
        """
        derived = self._derive()
        column = x[:, None]
        means = np.add.reduce(derived.means * column)
        square = (column * x).reshape(-1, 1)
        variances = np.add.reduce(derived.covariances * square)
        # Observations only ever narrow the prior; rounding must not say otherwise.
        most = float(np.add.reduce(x * x)) / self.alpha
        return means, np.minimum(np.maximum(variances, 0.0), most)

    def with_actions(self, places: Sequence[int | None]) -> LinearPosterior:
        """Return the state for other actions.

        Parameters
        ----------
        places : sequence of int or None
            For each new action the place it had; None: it is new, and starts from the prior.
        """
        n_features = self.moments.shape[1]
        fresh = self.prior(len(places), n_features, self.alpha, self.beta, self.discount)
        precisions, moments = fresh.precisions.copy(), fresh.moments.copy()
        for new, old in enumerate(places):
            if old is not None:
                precisions[new] = self.precisions[old]
                moments[new] = self.moments[old]
        return self._with(precisions, moments)

    def _with(self, precisions: Vector, moments: Vector) -> LinearPosterior:
        return LinearPosterior(
            _frozen(precisions), _frozen(moments), self.alpha, self.beta, self.discount
        )

    def _derive(self) -> Derived:
        derived = self._derived
        if derived is None:
            derived = _derive(self.precisions, self.moments)
            # A cache of a pure function: two threads at once would store equal values.
            object.__setattr__(self, "_derived", derived)
        return derived


def _frozen(array: Vector) -> Vector:
    array.flags.writeable = False
    return array


def _derive(precisions: Vector, moments: Vector) -> Derived:
    n_actions, n_features = moments.shape
    inverse = _inverses(precisions)
    means = (inverse * moments.T[:, None, :]).sum(axis=0)
    return Derived(means, inverse.reshape(n_features * n_features, n_actions))


def _inverses(matrices: Vector) -> Vector:
    """Invert symmetric positive definite matrices, all at once, by Gauss-Jordan in place.

    No pivot is searched: for such matrices the diagonal is stable in any order (Higham, "Accuracy
    and Stability of Numerical Algorithms", section 14.4), and a search would fix another order of
    operations for each action.

    Parameters
    ----------
    matrices : ndarray of float64, shape (n, d, d)

    Returns
    -------
    ndarray of float64, shape (d, d, n)
    """
    work = np.array(matrices.transpose(1, 2, 0), order="C")
    size = work.shape[0]
    floors = _PIVOT_FLOOR * work[range(size), range(size)]
    for k in range(size):
        pivots = np.maximum(work[k, k], floors[k])
        row = work[k] / pivots
        column = work[:, k].copy()
        work -= column[:, None, :] * row
        work[k] = row
        work[:, k] = column / -pivots
        work[k, k] = 1.0 / pivots
    return work
