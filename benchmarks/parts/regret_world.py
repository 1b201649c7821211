"""The simulated world as tables: what every way of choosing meets, the same for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from producers.simulated import SimulatedWorld
from producers.taste import STANDARD_TASTE
from schemas.features import DAYPARTS

Table = NDArray[np.float64]

FEATURES = (
    "bias",
    "happy",
    *(f"daypart.{part}" for part in DAYPARTS),
    *(f"happy:daypart.{part}" for part in DAYPARTS),
)
"""The features of the shipped loop."""
ACTIONS = tuple(STANDARD_TASTE.chances)
"""The greetings; the first is the baseline."""


@dataclass(frozen=True, slots=True)
class Tables:
    """A row for each visitor."""

    contexts: Table
    """Features, shape (n, d)."""
    rewards: Table
    """What each action would earn of this very visitor, shape (n, k)."""
    expected: Table
    """The same without chance, shape (n, k)."""
    sad: NDArray[np.bool_]
    """Whether the visitor came sad, shape (n,)."""


def tables(seed: int, visits: int, drift_at: int | None = None) -> Tables:
    """Return so many visitors of a world, with every outcome that could have been.

    Parameters
    ----------
    seed : int
        Seed of the world.
    visits : int
        Visitors, above 0.
    drift_at : int, optional
        Taste flips at this visitor.
    """
    contexts, rewards, expected, sad = [], [], [], []
    for visitor in SimulatedWorld(seed, drift_at).visitors(visits):
        parts = [float(part == visitor.part) for part in DAYPARTS]
        contexts.append([1.0, visitor.before, *parts, *(visitor.before * part for part in parts)])
        rewards.append([visitor.after(action) - visitor.before for action in ACTIONS])
        expected.append([visitor.expected(action) for action in ACTIONS])
        sad.append(visitor.group == "sad")
    return Tables(np.array(contexts), np.array(rewards), np.array(expected), np.array(sad))
