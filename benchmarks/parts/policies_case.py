"""The problem that `benchmarks/policies.py` lets every learner solve: linear, and by a seed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

N_ACTIONS, N_FEATURES = 12, 17
NOISE = 0.5
"""Standard deviation of a reward, about as a smile's."""
CHUNK = 1_000
"""Rounds timed together, and the size of a batch."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Contexts, and what every action would have earned in each."""

    contexts: Vector
    """Shape (n_rounds, n_features): 1, then what is uniform in -1..1."""
    expected: Vector
    """Expected reward, shape (n_rounds, n_actions)."""
    rewards: Vector
    """What it would have been, shape (n_rounds, n_actions)."""
    draws: Vector
    """One uniform draw for each round."""


def problem(seed: int, n_rounds: int) -> Problem:
    """Return a problem: each action's weights are N(0, 0.25), the noise is N(0, 0.5)."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.0, 0.25, (N_FEATURES, N_ACTIONS))
    contexts = rng.uniform(-1.0, 1.0, (n_rounds, N_FEATURES))
    contexts[:, 0] = 1.0
    expected = contexts @ weights
    rewards = expected + rng.normal(0.0, NOISE, expected.shape)
    return Problem(contexts, expected, rewards, rng.random(n_rounds))


class Learner(Protocol):
    """One of those compared."""

    def given(self, contexts: Vector) -> list[Any]:
        """Return contexts in the form it takes them in; this is not timed."""
        ...

    def decide(self, context: Any, draw: float) -> int:
        """Return the action in a context."""
        ...

    def observed(self, context: Any, action: int, reward: float) -> Any:
        """Return what a log would give of that; this is not timed."""
        ...

    def learn(self, observed: Any) -> None:
        """Learn what a decision earned."""
        ...


class BatchLearner(Learner, Protocol):
    """One that also takes many at once."""

    def decide_many(self, contexts: list[Any], draws: Vector) -> NDArray[np.intp]:
        """Return the action in each context."""
        ...

    def learn_many(self, observed: list[Any]) -> None:
        """Learn what the last decisions earned."""
        ...


@dataclass(frozen=True, slots=True)
class Timed:
    """How one learner did in one problem."""

    decide_us: float
    """Time of a decision: the median over chunks of 1,000."""
    learn_us: float
    """Time to learn from one outcome."""
    regret: float
    """What always the best action would have earned more, over all rounds."""
    late_regret: float
    """The same over the second half."""

    @property
    def a_second(self) -> float:
        """Rounds a second."""
        return 1e6 / (self.decide_us + self.learn_us)


def one_by_one(learner: Learner, case: Problem) -> Timed:
    """Let it decide and learn, round by round."""
    clock = time.perf_counter
    n_rounds = len(case.contexts)
    regrets = np.empty(n_rounds)
    decides_us, learns_us = [], []
    for first in range(0, n_rounds, CHUNK):
        chunk = range(first, min(first + CHUNK, n_rounds))
        given = learner.given(case.contexts[chunk.start : chunk.stop])
        decide_s = learn_s = 0.0
        for row, context in zip(chunk, given, strict=True):
            draw = float(case.draws[row])
            start_s = clock()
            action = learner.decide(context, draw)
            decide_s += clock() - start_s
            observed = learner.observed(context, action, float(case.rewards[row, action]))
            start_s = clock()
            learner.learn(observed)
            learn_s += clock() - start_s
            regrets[row] = case.expected[row].max() - case.expected[row, action]
        decides_us.append(1e6 * decide_s / len(chunk))
        learns_us.append(1e6 * learn_s / len(chunk))
    return _timed(decides_us, learns_us, regrets)


def in_batches(learner: BatchLearner, case: Problem) -> Timed:
    """Let it decide 1,000 at once, then learn from those."""
    clock = time.perf_counter
    n_rounds = len(case.contexts)
    regrets = np.empty(n_rounds)
    decides_us, learns_us = [], []
    for first in range(0, n_rounds, CHUNK):
        rows = np.arange(first, min(first + CHUNK, n_rounds))
        given = learner.given(case.contexts[rows])
        start_s = clock()
        actions = learner.decide_many(given, case.draws[rows])
        decides_us.append(1e6 * (clock() - start_s) / len(rows))
        earned = case.rewards[rows, actions].tolist()
        observed = list(map(learner.observed, given, actions.tolist(), earned))
        start_s = clock()
        learner.learn_many(observed)
        learns_us.append(1e6 * (clock() - start_s) / len(rows))
        regrets[rows] = case.expected[rows].max(axis=1) - case.expected[rows, actions]
    return _timed(decides_us, learns_us, regrets)


def _timed(decides_us: list[float], learns_us: list[float], regrets: Vector) -> Timed:
    half = float(regrets[len(regrets) // 2 :].sum())
    return Timed(median(decides_us), median(learns_us), float(regrets.sum()), half)
