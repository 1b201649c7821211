"""Scores: what one record with known probabilities says of the value of another policy.

With weight w(a) = target probability / logged probability of each action, chosen action A, reward
R in 0..1 and a model f of the expected reward that only the past has made, a record scores::

    score = w(A) (R - f(A)) + sum over a of target(a) f(a)

Its expectation is the target's, whatever f is: f = 0 is inverse propensity scoring (IPS), a model
makes it doubly robust (Dudik, Langford and Li 2011; cross-time, since f sees the past only). The
lower bound needs scores that are never far below 0, so f is held below `hold` / w where the weight
is large (Waudby-Smith et al. 2022, section 2): the score is then at least -`hold`, and still
unbiased, since f may be anything the past decides. The upper bound is the lower one of 1 - R.

The difference of two targets on the same records is the same with w the difference of the weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from policies.base import Vector

HOLD_VALUE = 2.0
"""How far below 0 a doubly robust score may lie. More lets the model speak where weights are
large, and costs `HOLD_VALUE` log(1 / alpha) / n of width."""


def scores(
    weights: Any, target: Any, chosen: Any, reward: Any, model: Any, hold: float
) -> tuple[Any, Any, Any]:
    """Return what one record says of a target, and of what it lacks.

    Parameters
    ----------
    weights : ndarray, shape (..., n_actions)
        Of every action; below 0 only in a difference of two targets.
    target : ndarray, shape (..., n_actions)
        Probabilities of the target, or their difference.
    chosen : ndarray of bool, shape (..., n_actions)
        True at the chosen action.
    reward : float or ndarray, shape (...)
        0..1.
    model : ndarray, shape (..., n_actions)
        Expected reward of every action, 0..1, made by the past.
    hold : float
        No part of a score that an action could cause is below -hold.

    Returns
    -------
    gains : ndarray, shape (...)
        Its expectation is that of target times reward.
    lacks : ndarray, shape (...)
        The same of 1 - reward.
    held : ndarray of bool, shape (...)
        True: the model was held back at the chosen action.
    """
    beyond = np.abs(weights) > hold
    reach = np.divide(hold, weights, out=np.ones_like(weights), where=beyond)
    most = np.where(beyond & (weights > 0.0), reach, 1.0)
    least = np.where(beyond & (weights < 0.0), 1.0 + reach, 0.0)
    above = np.minimum(np.maximum(model, least), most)
    below = np.minimum(np.maximum(1.0 - model, least), most)
    weight = (weights * chosen).sum(axis=-1)
    held = (((above != model) | (below != 1.0 - model)) & chosen).any(axis=-1)
    gains = weight * (reward - (above * chosen).sum(axis=-1)) + (target * above).sum(axis=-1)
    lack = 1.0 - reward - (below * chosen).sum(axis=-1)
    lacks = weight * lack + (target * below).sum(axis=-1)
    return gains, lacks, held


class Score(NamedTuple):
    """What one record says of one target."""

    weight: float
    """Of the chosen action."""
    reward: float
    """0..1."""
    gain: float
    """Doubly robust: its expectation is the target's value."""
    lack: float
    """The same of 1 - reward."""
    more: float
    """Its expectation is the target's value less that of what was logged."""
    less: float
    """The same of 1 - reward."""
    held: bool
    """Whether the model was held back."""


def score_all(
    targets: Vector,
    probabilities: Vector,
    index: int,
    reward: float,
    model: Vector,
    hold: float = HOLD_VALUE,
) -> list[Score | None]:
    """Return what one record says of each of several targets.

    Parameters
    ----------
    targets : ndarray, shape (n_targets, n_actions)
        What each would do.
    probabilities, model : ndarray, shape (n_actions,)
        What was logged, and what is expected.
    index : int
        Place of the chosen action.
    reward : float
        0..1.
    hold : float
        At least 1: a target that never does what was logged has a difference as low as that.

    Returns
    -------
    list of Score or None
        None: the target may choose what had no chance in the log.
    """
    # Once for all targets: a numpy call for each of them took three quarters of an evaluation.
    has_chance = probabilities > 0.0
    weights = np.divide(targets, probabilities, out=np.zeros_like(targets), where=has_chance)
    uncovered = np.asarray(((targets > 0.0) & ~has_chance).any(axis=1))
    chosen = np.arange(probabilities.size) == index
    both_weights = np.concatenate((weights, (weights - 1.0) * has_chance))
    both_targets = np.concatenate((targets, targets - probabilities))
    gains, lacks, held = scores(both_weights, both_targets, chosen, reward, model, hold)
    n = len(targets)
    columns = (weights[:, index], gains[:n], lacks[:n], gains[n:], lacks[n:])
    numbers = zip(*(column.tolist() for column in columns), held[:n].tolist(), strict=True)
    return [
        Score(weight, reward, gain, lack, more, less, is_held) if not is_uncovered else None
        for is_uncovered, (weight, gain, lack, more, less, is_held) in zip(
            uncovered.tolist(), numbers, strict=True
        )
    ]
