"""What an outcome says to whoever judges policies: who could have been chosen, and what it earned.

An outcome whose probabilities are missing, zero or do not add up is refused with the reason, so
that it is counted and never weighs in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.base import Vector
from schemas.checks import PPB
from schemas.decisions import Choice
from schemas.errors import InvalidRecord
from schemas.outcomes import OutcomeClosed


@dataclass(frozen=True, slots=True)
class RewardRange:
    """The range of a loop's rewards, and the way from it to 0..1 and back."""

    low: float
    """Smallest reward."""
    high: float
    """Largest reward, above `low`."""

    def __post_init__(self) -> None:
        if not self.high > self.low:
            problem = f"the rewards of the loop lie in {self.low!r} to {self.high!r}"
            raise InvalidRecord(problem, "Nothing can be compared where all earn the same")

    @property
    def width(self) -> float:
        """The largest less the smallest reward."""
        return self.high - self.low

    def to_share(self, reward: float) -> float:
        """Return a reward as a part of its range, 0..1.

        Raises
        ------
        InvalidRecord
            When it lies outside.
        """
        share = (reward - self.low) / self.width
        if not 0.0 <= share <= 1.0:
            problem = f"a reward is {reward!r}"
            raise InvalidRecord(problem, f"This loop's lie in {self.low!r} to {self.high!r}")
        return share

    def to_reward(self, share: float) -> float:
        """Return a mean of shares as a mean reward; may lie outside, as an estimate may."""
        return self.low + self.width * share


@dataclass(frozen=True, slots=True, eq=False)
class Logged:
    """One decision with its reward, as an estimator takes it."""

    outcome: OutcomeClosed
    """The outcome."""
    probabilities: Vector
    """q, shape (n_actions,): what was logged, 0..1; adds up to 1."""
    index: int
    """Place of the chosen action."""
    reward: float
    """The reward as a part of its range, 0..1."""

    @property
    def action_ids(self) -> tuple[str, ...]:
        """Ids of the actions, in the order offered."""
        return tuple(action.id for action in self.outcome.choice.actions)

    @property
    def eligible(self) -> tuple[bool, ...]:
        """Whether each action was on offer."""
        return tuple(action.eligible for action in self.outcome.choice.actions)

    def covers(self, target: Vector) -> bool:
        """Whether every action that a target may choose had a chance in the log."""
        return not bool(((target > 0.0) & (self.probabilities <= 0.0)).any())


def logged(outcome: OutcomeClosed, rewards: RewardRange, *, given_variant: bool = False) -> Logged:
    """Read one outcome for evaluation.

    Parameters
    ----------
    outcome : OutcomeClosed
        Rewarded or defaulted; others have no reward to speak of.
    rewards : RewardRange
        The range of its loop.
    given_variant : bool
        Whether records are chosen by the variant that was drawn. Then the probabilities are those
        of that variant: the mixture over all of them is no longer what chose.

    Raises
    ------
    InvalidRecord
        When its probabilities are missing, zero where it chose, negative, or do not add up to
        1e9; when the chosen action is not among those offered, or the reward lies outside.
    """
    choice = outcome.choice
    shares_ppb = [action.probability_ppb for action in choice.actions]
    places = [place for place, action in enumerate(choice.actions) if action.id == choice.action_id]
    if len(places) != 1 or sum(shares_ppb) != PPB or min(shares_ppb) < 0:
        problem = (
            f"the probabilities of decision {choice.decision_id!r} add up to {sum(shares_ppb)}, "
            f"and {len(places)} of its actions are the chosen one"
        )
        raise InvalidRecord(problem, "Evaluation needs probabilities that add up to 1e9")
    (index,) = places
    if not 0 < choice.propensity_ppb == shares_ppb[index]:
        problem = f"decision {choice.decision_id!r} has propensity {choice.propensity_ppb}"
        raise InvalidRecord(problem, f"Its action was offered with {shares_ppb[index]}, above 0")
    if given_variant and choice.variant is not None:
        shares_ppb = _of_variant(choice, index)
    probabilities = np.array(shares_ppb, dtype=np.float64) / PPB
    return Logged(outcome, probabilities, index, rewards.to_share(outcome.reward))


def _of_variant(choice: Choice, index: int) -> list[int]:
    for offer in choice.variants:
        if offer.name == choice.variant:
            shares_ppb = list(offer.probabilities_ppb)
            fits = len(shares_ppb) == len(choice.actions) and min(shares_ppb) >= 0
            if fits and sum(shares_ppb) == PPB and shares_ppb[index] > 0:
                return shares_ppb
    problem = f"decision {choice.decision_id!r} does not say how variant {choice.variant!r} chose"
    raise InvalidRecord(problem, "The variant needs probabilities that add up to 1e9")


def has_reward(outcome: OutcomeClosed) -> bool:
    """Whether it earned anything: dropped and never activated decisions did not."""
    return outcome.result in ("rewarded", "defaulted")
