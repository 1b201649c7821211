"""Which greetings lose their reactions: the share of showings that nobody could read a face after.

A missing reaction earns the default. Where one greeting loses more of them than the others (it
makes people turn away, or laugh out of the picture), its mean says less about it than it seems.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from scipy.special import ndtri

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class MissingRate:
    """One greeting's missing reactions beside those of all the others."""

    action_id: str
    """The greeting."""
    shown: int
    """How often it was shown."""
    missing: int
    """How often no usable reaction was seen."""
    share: float
    """The one of the other, 0..1."""
    others_share: float
    """The same of all other greetings, 0..1."""
    low: float
    """Lower end of the interval of the difference, -1..1."""
    high: float
    """Upper end, -1..1."""
    alarm: bool
    """True: the interval excludes 0; look at what this greeting does."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def missing_rates(showings: Iterable[tuple[str, bool]]) -> tuple[MissingRate, ...]:
    """Compare every greeting's missing rate with that of the others.

    The interval is Agresti and Caffo's (2000): one success and one failure more on either side,
    which holds its level down to samples of ten. The error of 5 % is shared among the greetings
    (Bonferroni), so that a report of eight quiet ones raises an alarm in one of twenty at most.

    Parameters
    ----------
    showings : iterable of (str, bool)
        For each showing the greeting, and whether its reaction is missing.

    Returns
    -------
    tuple of MissingRate
        By name of the greeting; one alone has no others, and no alarm.
    """
    shown: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    for action_id, is_missing in showings:
        shown[action_id] += 1
        missing[action_id] += is_missing
    return missing_rates_of(shown, missing)


def missing_rates_of(shown: Counter[str], missing: Counter[str]) -> tuple[MissingRate, ...]:
    """Compare as `missing_rates` does, where the showings are counted already.

    Parameters
    ----------
    shown, missing : Counter of str
        By greeting: how often it was shown, and how many of these reactions are missing.
    """
    all_shown, all_missing = shown.total(), missing.total()
    error = (1.0 - CONFIDENCE) / max(1, len(shown))
    z = float(ndtri(1.0 - error / 2.0))
    rates = []
    for action_id in sorted(shown):
        mine = (missing[action_id], shown[action_id])
        others = (all_missing - mine[0], all_shown - mine[1])
        low, high = difference(mine, others, z) if others[1] else (-1.0, 1.0)
        share = mine[0] / mine[1]
        others_share = others[0] / others[1] if others[1] else 0.0
        alarm = low > 0.0 or high < 0.0
        rates.append(
            MissingRate(action_id, mine[1], mine[0], share, others_share, low, high, alarm)
        )
    return tuple(rates)


def difference(one: tuple[int, int], other: tuple[int, int], z: float) -> tuple[float, float]:
    """Return the interval of the difference of two proportions (Agresti and Caffo, 2000).

    Parameters
    ----------
    one, other : tuple of int
        How many of how many; of at least 1.
    z : float
        Quantile of the normal distribution.
    """
    shares = [(count + 1.0) / (total + 2.0) for count, total in (one, other)]
    spread = [
        share * (1.0 - share) / (total + 2.0)
        for share, (_, total) in zip(shares, (one, other), strict=True)
    ]
    middle, half = shares[0] - shares[1], z * math.sqrt(sum(spread))
    return max(-1.0, middle - half), min(1.0, middle + half)
