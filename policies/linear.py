"""One Bayesian linear regression per action, with bytes that repeat on every machine.

For each action, over contexts x with rewards y and weights w (Bishop, "Pattern Recognition and
Machine Learning", equations 3.50 and 3.51, in natural parameters)::

    precision = alpha I + sum of beta w x x'
    moment    =           sum of beta w y x
    mean = inverse(precision) moment        variance of x'theta = x' inverse(precision) x

The state is precision and moment. Whoever learns only adds and multiplies, element by element, in
an order fixed here: a matrix product (BLAS) gives other last digits with another processor. Means
and covariances are derived from the state when asked for, each action's from its own state alone,
so that a policy restored from its snapshot says what the one before the restart said, to the last
bit (`policies.inverses`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from policies.base import Vector, frozen
from policies.inverses import Derived, derive, upper

_BATCH_NUMBERS = 2**19
"""Numbers in the products of one batch: 4 MB, which a processor's cache holds."""
_ROWS_TOGETHER = 512
"""Contexts estimated together: with 12 actions, sum and product take 100 kB."""


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
    _stale: tuple[Derived, frozenset[int]] | None = field(default=None, init=False, repr=False)

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
        return cls(frozen(precisions), frozen(moments), alpha, beta, discount)

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
        return self._with(precisions, moments, (action,))

    def learn_many(
        self, actions: NDArray[np.intp], xs: Vector, rewards: Vector, weights: Vector
    ) -> LinearPosterior:
        """Return the state after observations in their order, with the bytes of one by one.

        Actions learn apart, so the first observation of each is learned at once, then the second
        of each, and so on: every number goes through the same steps in the same order as alone.

        Parameters
        ----------
        actions : ndarray of int, shape (n,)
            Places of the actions.
        xs : ndarray of float64, shape (n, n_features)
            The contexts.
        rewards : ndarray of float64, shape (n,)
            What they earned.
        weights : ndarray of float64, shape (n,)
            How sure the observations are, 0..1.
        """
        precisions, moments = self.precisions.copy(), self.moments.copy()
        size = xs.shape[1]
        together = max(1, _BATCH_NUMBERS // max(1, size * (size + 1)))
        for start in range(0, len(actions), together):
            part = slice(start, start + together)
            batch = actions[part], xs[part], rewards[part], weights[part]
            self._learn_batch(precisions, moments, *batch)
        return self._with(precisions, moments, np.unique(actions).tolist())

    def _learn_batch(
        self,
        precisions: Vector,
        moments: Vector,
        actions: NDArray[np.intp],
        xs: Vector,
        rewards: Vector,
        weights: Vector,
    ) -> None:
        """Learn into arrays that nobody else has."""
        size = xs.shape[1]
        counts = np.bincount(actions, minlength=len(moments))
        # Actions by how often they came: those still learning in a round are always the first.
        by_count = np.argsort(-counts, kind="stable")
        slot = np.empty_like(by_count)
        slot[by_count] = np.arange(len(by_count))
        order, n_in_round = _rounds(slot[actions], int(counts.max(initial=0)))
        xs, rewards, weights = xs[order], rewards[order], weights[order]
        scaled = xs * (self.beta * weights)[:, None]
        added = scaled[:, :, None] * np.column_stack((xs, rewards))[:, None, :]
        state = np.concatenate((precisions, moments[:, :, None]), axis=2)[by_count]
        diagonal = state.reshape(len(state), -1)[:, :: size + 2]
        keeps = 1.0 - (1.0 - self.discount) * weights
        towards = (1.0 - keeps) * self.alpha
        first = 0
        for n in n_in_round:
            last = first + n
            if self.discount < 1.0:
                state[:n] *= keeps[first:last, None, None]
                diagonal[:n] += towards[first:last, None]
            state[:n] += added[first:last]
            first = last
        precisions[by_count] = state[:, :, :size]
        moments[by_count] = state[:, :, size]

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
        means = np.add.reduce(derived.means * x[:, None])
        means += 0.0  # no -0: a batch adds to 0, and has none
        first, second = upper(x.size)
        square = x[first] * x[second]
        variances = np.add.reduce(derived.covariances * square[:, None])
        variances += 0.0
        # Observations only ever narrow the prior; rounding must not say otherwise.
        most = float(np.add.reduce(x * x)) / self.alpha
        return means, np.minimum(np.maximum(variances, 0.0), most)

    def estimates_many(self, xs: Vector) -> tuple[Vector, Vector]:
        """Return means and variances in many contexts, with the bytes of one by one.

        Parameters
        ----------
        xs : ndarray of float64, shape (n_contexts, n_features)
            The contexts.

        Returns
        -------
        means, variances : ndarray of float64, shape (n_contexts, n_actions)
        """
        derived = self._derive()
        n_actions = len(self.moments)
        if n_actions == 1 or not xs.size:
            # Alone, numpy adds a column pairwise, and not in the order of several.
            pairs = np.array([self.estimates(x) for x in xs]).reshape(len(xs), 2, n_actions)
            return pairs[:, 0], pairs[:, 1]
        means = np.empty((len(xs), n_actions))
        variances = np.empty((len(xs), n_actions))
        first, second = upper(xs.shape[1])
        for start in range(0, len(xs), _ROWS_TOGETHER):
            part = slice(start, start + _ROWS_TOGETHER)
            columns = np.ascontiguousarray(xs[part].T)
            n_rows = columns.shape[1]
            means[part] = _sum_of_products(derived.means, columns, n_rows).T
            squares = (columns[i] * columns[j] for i, j in zip(first, second, strict=True))
            variances[part] = _sum_of_products(derived.covariances, squares, n_rows).T
        most = np.add.reduce(xs * xs, axis=1)[:, None] / self.alpha
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
        return LinearPosterior(
            frozen(precisions), frozen(moments), self.alpha, self.beta, self.discount
        )

    def _with(self, precisions: Vector, moments: Vector, changed: Iterable[int]) -> LinearPosterior:
        new = LinearPosterior(
            frozen(precisions), frozen(moments), self.alpha, self.beta, self.discount
        )
        # What follows from the state of the other actions need not be derived again.
        if self._derived is not None:
            object.__setattr__(new, "_stale", (self._derived, frozenset(changed)))
        elif self._stale is not None:
            base, stale = self._stale
            object.__setattr__(new, "_stale", (base, stale.union(changed)))
        return new

    def _derive(self) -> Derived:
        derived = self._derived
        if derived is None:
            derived = derive(self.precisions, self.moments, self._stale)
            # A cache of a pure function: two threads at once would store equal values.
            object.__setattr__(self, "_derived", derived)
            object.__setattr__(self, "_stale", None)
        return derived


def _rounds(slots: NDArray[np.intp], n_rounds: int) -> tuple[NDArray[np.intp], list[int]]:
    """Return observations in order of (how often their action came before, slot); how many each."""
    by_slot = np.argsort(slots, kind="stable")
    ordered = slots[by_slot]
    starts = np.searchsorted(ordered, ordered)
    rounds = np.empty_like(by_slot)
    rounds[by_slot] = np.arange(len(slots)) - starts
    return np.lexsort((slots, rounds)), np.bincount(rounds, minlength=n_rounds).tolist()


def _sum_of_products(weights: Vector, columns: Iterable[Vector], n_columns: int) -> Vector:
    """Return the sum over i of weights[i, a] columns[i, c], in the order of i: shape (a, c)."""
    total = np.zeros((weights.shape[1], n_columns))
    product = np.empty_like(total)
    for weight, column in zip(weights, columns, strict=True):
        np.multiply(weight[:, None], column, out=product)
        np.add(total, product, out=total)
    return total
