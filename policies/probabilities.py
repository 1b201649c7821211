"""Probabilities as integers of 1e-9: the truth of the whole procedure, not of the policy alone.

With control share c, floor eps, K eligible actions and the policy's own probabilities p, all of
them integers of 1e-9::

    C = control share, 0 when the baseline is excluded
    r = largest remainder of (1e9 - C) [(1 - eps) p + eps / K], 0 for excluded actions
    q = r + C [baseline]

p is rounded to integers *before* it is mixed, and everything after that is whole numbers: whoever
reads a decision recomputes its q exactly, in any language.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.checks import PPB, check_range
from schemas.errors import PolicyError, UsageError

_SEED_SIZE = 8
_LENGTH_SIZE = 4


@dataclass(frozen=True, slots=True)
class Mixed:
    """The probabilities of one decision, each list in the order offered."""

    probabilities_ppb: tuple[int, ...]
    """q, shape (n_actions,): under control, floor and policy together; adds up to 1e9."""
    policy_ppb: tuple[int, ...]
    """p, shape (n_actions,): under the policy alone; adds up to 1e9."""
    control_ppb: int
    """C: the control share in force, 0 when the baseline is excluded."""


def largest_remainder(shares: Sequence[float], total: int) -> tuple[int, ...]:
    """Divide a whole number in proportion to shares (Hamilton's method), exactly.

    Shares are read as the exact rationals that floats are, so that the sum is exact for any total
    and equal shares are real ties, which no rounding breaks.

    Parameters
    ----------
    shares : sequence of float or int, shape (n,)
        Relative sizes, at least 0 and not all 0; they need not add up to 1.
    total : int
        What is divided, at least 0.

    Returns
    -------
    tuple of int, shape (n,)
        Adds up to `total`; each within 1 of its exact share. What is left over goes to the largest
        remainders, of equal ones to the lower index; a share of 0 gets 0.

    Raises
    ------
    UsageError
        When a share is negative or not finite, all are 0, or the total is negative.
    """
    weights = _whole_weights(shares)
    weight = sum(weights)
    if weight <= 0 or total < 0 or min(weights) < 0:
        problem = f"{total} cannot be divided by the shares {list(shares)[:8]}"
        raise UsageError(problem, "Shares must be at least 0 and not all 0, the total at least 0")
    scaled = [each * total for each in weights]
    result = [each // weight for each in scaled]
    left_over = total - sum(result)
    if left_over:
        remainders = [each % weight for each in scaled]
        # A stable sort: of equal remainders the lower index stays first.
        places = sorted(range(len(scaled)), key=remainders.__getitem__, reverse=True)
        for index in places[:left_over]:
            result[index] += 1
    return tuple(result)


def _whole_weights(shares: Sequence[float]) -> list[int]:
    try:
        ratios = [share.as_integer_ratio() for share in shares]
    except (ValueError, OverflowError) as error:
        problem = f"the shares {list(shares)[:8]} are not all finite"
        raise UsageError(problem, "Give finite numbers, at least 0") from error
    # Denominators of floats are powers of two, so the largest is a multiple of each.
    common = max([bottom for _, bottom in ratios], default=1)
    return [top * (common // bottom) for top, bottom in ratios]


def mix(
    policy_probabilities: Sequence[float],
    eligible: Sequence[bool],
    baseline_index: int,
    control_share_ppb: int,
    floor_ppb: int,
) -> Mixed:
    """Mix control, exploration floor and policy into the probability of every action.

    Parameters
    ----------
    policy_probabilities : sequence of float, shape (n_actions,)
        What the policy says, 0..1; 0 where not eligible.
    eligible : sequence of bool, shape (n_actions,)
        False: excluded from this decision.
    baseline_index : int
        Place of the baseline.
    control_share_ppb : int
        Share that gets the baseline whatever the policy says, 0..1e9.
    floor_ppb : int
        Share spread evenly over the eligible actions, 0..1e9.

    Returns
    -------
    Mixed
        Every eligible action has at least ``(1e9 - C) eps / K``, less at most 1.

    Raises
    ------
    UsageError
        When nothing is eligible, or the lengths differ.
    PolicyError
        When the policy's numbers are no probabilities, or an excluded action has one.
    InvalidRecord
        When control share or floor lies outside 0..1e9.
    """
    check_range("control_share_ppb", control_share_ppb, 0, PPB)
    check_range("floor_ppb", floor_ppb, 0, PPB)
    n_eligible = sum(map(bool, eligible))
    if not n_eligible or len(eligible) != len(policy_probabilities):
        problem = f"{len(policy_probabilities)} actions are offered, {n_eligible} eligible"
        raise UsageError(problem, "At least one must be eligible, and each must say whether it is")
    shares = [float(probability) for probability in policy_probabilities]
    odd = [share for share in shares if not 0.0 <= share <= 1.0 + 1e-6]
    if n_eligible < len(shares):
        odd += [share for share, may in zip(shares, eligible, strict=True) if share and not may]
    if odd:
        problem = f"the policy's probabilities are {shares[:8]}"
        raise PolicyError(problem, "Each must lie in 0..1, and be 0 where not eligible")
    policy_ppb = largest_remainder(shares, PPB)
    control_ppb = control_share_ppb if eligible[baseline_index] else 0
    keep_ppb = (PPB - floor_ppb) * n_eligible
    floor = floor_ppb * PPB
    mixture = [
        keep_ppb * ppb + floor if may else 0 for ppb, may in zip(policy_ppb, eligible, strict=True)
    ]
    result = list(largest_remainder(mixture, PPB - control_ppb))
    result[baseline_index] += control_ppb
    return Mixed(tuple(result), policy_ppb, control_ppb)


def draw_ppb(seed: int, loop_id: str, decision_id: str, salt: str = "") -> int:
    """Draw U for one decision: the same for the same ids, on every machine, for ever.

    Parameters
    ----------
    seed : int
        Seed of the loop, a signed 64-bit number.
    loop_id, decision_id : str
        What the draw is for.
    salt : str
        Names a second, independent draw for the same decision, such as ``variant``.

    Returns
    -------
    int
        0 to 1e9 - 1, uniform to within 1e9 / 2**64.
    """
    key = seed.to_bytes(_SEED_SIZE, "big", signed=True)
    parts = (loop_id, decision_id, salt) if salt else (loop_id, decision_id)
    # Lengths stand before the parts, so that ("ab", "c") and ("a", "bc") draw apart.
    message = b"".join(
        len(data).to_bytes(_LENGTH_SIZE, "big") + data
        for data in (part.encode("utf-8") for part in parts)
    )
    head = hashlib.blake2b(message, key=key).digest()[:8]
    return int.from_bytes(head, "big") * PPB >> 64


def pick(mixed: Mixed, draw_ppb: int, baseline_index: int) -> tuple[int, bool]:
    """Pick the action that a draw falls on.

    Parameters
    ----------
    mixed : Mixed
        The probabilities.
    draw_ppb : int
        The draw U, 0 to 1e9 - 1.
    baseline_index : int
        Place of the baseline, as given to `mix`.

    Returns
    -------
    index : int
        Place of the action.
    control : bool
        True: the draw fell into the control share.

    Raises
    ------
    InvalidRecord
        When the draw lies outside 0 to 1e9 - 1.
    """
    check_range("draw_ppb", draw_ppb, 0, PPB - 1)
    left = draw_ppb - mixed.control_ppb
    if left < 0:
        return baseline_index, True
    for index, ppb in enumerate(mixed.probabilities_ppb):
        left -= ppb - mixed.control_ppb if index == baseline_index else ppb
        if left < 0:
            return index, False
    problem = f"the probabilities {mixed.probabilities_ppb} do not add up to 1e9"
    raise PolicyError(problem, "Make them with `mix`")
