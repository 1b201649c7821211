"""Means with intervals that hold at every moment, many side by side, for a page that is left open.

Whoever watches an interval grow narrow and stops when it pleases needs one that holds at all
moments at once. This is the empirical Bernstein confidence sequence of
`policies.evaluation.confidence` (Howard, Ramdas, McAuliffe and Sekhon 2021), from both sides of
values in 0..1.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from policies.evaluation.confidence import boundary, mixture_rate

ALPHA = 0.05
"""The chance that an interval fails, ever."""
NARROWEST_AT = 20.0
"""Narrowest at a V of about this: some hundred values. With the 200 that importance weights want,
intervals after 100 rewards were 1.8 times as wide, after 1,000 1.1 times (measured)."""
_RHO = mixture_rate(NARROWEST_AT)

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Tally:
    """The running sums of values in 0..1: three numbers, however many values."""

    n: int = 0
    """Values taken."""
    total: float = 0.0
    """Their sum."""
    variance: float = 0.0
    """Sum of the squares of value less what the values before made one expect."""

    def take(self, value: float) -> None:
        """Take one more value, 0..1."""
        guess = (self.total + 0.5) / (self.n + 1)
        self.variance += (value - guess) ** 2
        self.total += value
        self.n += 1

    def add(self, other: Tally) -> None:
        """Take all values of another: its guesses knew its own past alone, and hold as well."""
        self.n += other.n
        self.total += other.total
        self.variance += other.variance


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where it lies, in the unit asked for."""

    value: float
    """The mean."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end of its interval."""
    n: int
    """Values it rests on."""


def intervals(
    tallies: Mapping[Key, Tally], width: float = 1.0, offset: float = 0.0, alpha: float = ALPHA
) -> dict[Key, Interval]:
    """Return the mean of each tally with its interval; each fails, ever, with a chance of alpha.

    Parameters
    ----------
    tallies : mapping of Tally
        Those without a value are left out.
    width, offset : float
        The unit: `width` times what was taken, plus `offset`.
    alpha : float
        The error of each interval by itself: of twenty, one may fail.

    Returns
    -------
    dict of Interval
        By the same keys. All bounds are found in one bisection, 2 ms for a hundred.
    """
    known = [(key, tally) for key, tally in tallies.items() if tally.n]
    reach = _reach([tally for _, tally in known], alpha)
    found = {}
    for (key, tally), by in zip(known, reach, strict=True):
        mean = tally.total / tally.n
        low, high = max(0.0, mean - by), min(1.0, mean + by)
        value, low, high = (offset + width * share for share in (mean, low, high))
        found[key] = Interval(value, low, high, tally.n)
    return found


def interval(tally: Tally, width: float = 1.0, offset: float = 0.0) -> Interval | None:
    """Return the mean of one tally with its interval; None: it took no value."""
    return intervals({0: tally}, width, offset).get(0)


def _reach(tallies: Iterable[Tally], alpha: float) -> list[float]:
    """Return how far from each mean its ends lie.

    Of 1 - value the guesses are 1 - guess: V is the same from both sides.
    """
    pairs = [(tally.variance, tally.n) for tally in tallies]
    if not pairs:
        return []
    variance, count = np.array(pairs, dtype=np.float64).T
    reach: list[float] = (boundary(variance, alpha / 2.0, _RHO) / count).tolist()
    return reach
