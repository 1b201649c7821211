"""Estimators: the scores of many records (`policies.evaluation.scores`) with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import ndtri

from policies.evaluation.confidence import NARROWEST_AT, LowerBound, mixture_rate
from policies.evaluation.scores import HOLD_VALUE, Score, scores

Method = Literal["dr", "ips", "snips"]

_TELLING_SHARE = 0.5
_USEFUL_SHARE = 0.2
_MOST_NEEDED = 10**9


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is known of a mean, or of a difference of two."""

    method: Method
    """``dr`` doubly robust, ``ips`` inverse propensity, ``snips`` the same, self-normalised."""
    value: float
    """The estimate."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end of its interval."""
    anytime: bool
    """True: the interval holds at every moment at once; False: at one, fixed in advance."""
    n: int
    """Records it rests on."""
    tells: bool
    """Whether the interval says anything: it is at most half as wide as what there is."""
    needed: int | None
    """About so many more records narrow it to a fifth of what there is; None: it is so already,
    or nobody can say."""

    def scaled(self, width: float, offset: float = 0.0) -> Estimate:
        """Return the same in another unit: `width` times what it was, plus `offset`."""
        ends = (offset + width * number for number in (self.value, self.low, self.high))
        value, low, high = ends
        return replace(self, value=value, low=low, high=high)


class Sides:
    """A mean from both sides: a lower bound of the gains and one of the lacks."""

    def __init__(self, *, is_difference: bool, hold: float) -> None:
        # Of a difference, the model's part alone may be as low as -1.
        least = -hold - 1.0 if is_difference else -hold
        self.hold = hold
        self.whole = 0.0 if is_difference else 1.0
        """What gains and lacks expect together."""
        rho = mixture_rate(NARROWEST_AT / (10.0 if is_difference else 1.0))
        self.gains, self.lacks = LowerBound(least, rho=rho), LowerBound(least, rho=rho)

    def take(self, gain: Any, lack: Any) -> None:
        """Take what one record says."""
        self.gains.take(gain)
        self.lacks.take(lack)

    def bounds(self, alpha: float) -> tuple[Any, Any]:
        """Return lower and upper end; each fails, ever, with a chance of at most alpha / 2."""
        least = self.whole - 1.0
        low = np.maximum(self.gains.low(alpha / 2.0), least)
        high = np.minimum(self.whole - self.lacks.low(alpha / 2.0), 1.0)
        return low, high

    def estimate(self, method: Method, alpha: float, value: float | None = None) -> Estimate:
        """Return the estimate as it stands.

        Parameters
        ----------
        method : str
            What it is called.
        alpha : float
            The chance that the interval fails, ever.
        value : float, optional
            The point; by default the middle of what gains and lacks say, both unbiased.
        """
        low, high = (float(end) for end in self.bounds(alpha))
        if value is None:
            value = 0.5 * float(self.gains.mean() + self.whole - self.lacks.mean())
            value = min(max(value, low), high)
        there_is = 2.0 - self.whole
        tells = high - low <= _TELLING_SHARE * there_is
        needed = self._needed(alpha, _USEFUL_SHARE * there_is)
        return Estimate(method, value, low, high, True, self.gains.count, tells, needed)

    def _needed(self, alpha: float, width: float) -> int | None:
        """Return how many more records make it so narrow, if they are like those that came."""
        count = self.gains.count
        if not count:
            return None

        def width_after(records: int) -> float:
            return sum(side.after(records, alpha / 2.0) for side in (self.gains, self.lacks))

        if width_after(count) <= width:
            return None
        low, high = count, 2 * count
        while width_after(high) > width:
            low, high = high, 2 * high
            if high > _MOST_NEEDED:
                return None
        while high - low > max(1, low // 50):
            middle = (low + high) // 2
            low, high = (middle, high) if width_after(middle) > width else (low, middle)
        return high - count


class Judge:
    """Everything one target's records have said so far."""

    def __init__(self, hold: float = HOLD_VALUE) -> None:
        self.dr = Sides(is_difference=False, hold=hold)
        self.ips = Sides(is_difference=False, hold=0.0)
        self.better = Sides(is_difference=True, hold=hold)
        """Target less what was logged, on the same records."""
        self.uncovered = 0
        """Records left out: the target may choose what had no chance in the log."""
        self.largest_weight = 0.0
        self.held = 0
        """Records at which the model was held back."""
        self._w = self._ww = self._wr = self._wwr = self._wwrr = 0.0

    @property
    def n(self) -> int:
        """Records taken."""
        return self.ips.gains.count

    def take(self, score: Score | None) -> None:
        """Take what one record says of the target; None: it does not cover it."""
        if score is None:
            self.uncovered += 1
            return
        weight, reward = score.weight, score.reward
        self.dr.take(score.gain, score.lack)
        self.ips.take(weight * reward, weight * (1.0 - reward))
        self.better.take(score.more, score.less)
        self.held += score.held
        self.largest_weight = max(self.largest_weight, weight)
        self._w += weight
        self._ww += weight * weight
        self._wr += weight * reward
        self._wwr += weight * weight * reward
        self._wwrr += weight * weight * reward * reward

    @property
    def effective_sample_size(self) -> float:
        """As many equally weighted records would say as much (Kish 1965): (sum w)^2 / sum w^2."""
        return self._w * self._w / self._ww if self._ww else 0.0

    def estimate(self, method: Method, alpha: float) -> Estimate:
        """Return the value of the target by one method, in parts of the reward's range."""
        if method == "dr":
            return self.dr.estimate("dr", alpha)
        if method == "ips":
            value = float(self.ips.gains.mean()) if self.n else 0.5
            return self.ips.estimate("ips", alpha, value)
        return self._snips(alpha)

    def difference(self, alpha: float) -> Estimate:
        """Return target less logging on the same records, doubly robust, -1..1."""
        return self.better.estimate("dr", alpha)

    def _snips(self, alpha: float) -> Estimate:
        """Return the self-normalised value (Swaminathan and Joachims 2015).

        Its interval is the normal one of the delta method, for one moment that was fixed before
        anybody looked: it does not hold for whoever watches it and stops when it pleases.
        """
        if not self._w:
            return Estimate("snips", 0.5, 0.0, 1.0, False, self.n, False, None)
        value = self._wr / self._w
        spread = self._wwrr - 2.0 * value * self._wwr + value * value * self._ww
        reach = -float(ndtri(alpha / 2.0)) * math.sqrt(max(spread, 0.0)) / self._w
        low, high = max(value - reach, 0.0), min(value + reach, 1.0)
        tells = high - low <= _TELLING_SHARE
        return Estimate("snips", value, low, high, False, self.n, tells, None)


class Lift:
    """What was learned less the control share, by the flag that the draw set."""

    def __init__(self) -> None:
        self._sides: Sides | None = None
        self._sums = [[0, 0.0], [0, 0.0]]
        self.without_control = 0
        """Records left out: no control share was in force."""

    def take(self, control: bool, share: float, reward: float, expected: float) -> None:
        """Take one record.

        Parameters
        ----------
        control : bool
            Whether the draw fell into the control share.
        share : float
            The control share in force, 0..1.
        reward : float
            0..1.
        expected : float
            What anybody in its context is expected to earn, 0..1, from the past.
        """
        if not 0.0 < share < 1.0:
            self.without_control += 1
            return
        if self._sides is None:
            # The scale must be fixed before the first record: of a share that changes later, the
            # model is held where it would reach below.
            self._sides = Sides(is_difference=True, hold=1.0 / min(share, 1.0 - share))
        weights = np.array([-1.0 / share, 1.0 / (1.0 - share)])
        chosen = np.array([control, not control])
        model = np.full(2, expected)
        gain, lack, _ = scores(
            weights, np.array([-1.0, 1.0]), chosen, reward, model, self._sides.hold
        )
        self._sides.take(float(gain), float(lack))
        tally = self._sums[control]
        tally[0] += 1
        tally[1] += reward

    def estimate(self, alpha: float) -> Estimate | None:
        """Return learned less control, -1..1; None: nobody was in either."""
        return None if self._sides is None else self._sides.estimate("dr", alpha)

    @property
    def counts(self) -> tuple[int, int]:
        """Records learned, and records in control."""
        return int(self._sums[0][0]), int(self._sums[1][0])
