"""A score expects the truth whatever the model says, and is never below what the bound assumes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.evaluation.confidence import LowerBound
from policies.evaluation.estimators import Judge, Lift, Sides
from policies.evaluation.scores import score_all, scores

SHARES = st.lists(st.integers(1, 1_000), min_size=3, max_size=3)
CHANCES = st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3)


def normal(shares: list[int]) -> np.ndarray:
    return np.array(shares, dtype=float) / sum(shares)


@given(SHARES, SHARES, CHANCES, CHANCES, st.sampled_from([0.0, 0.5, 2.0, 50.0]), st.booleans())
def test_the_expected_score_is_the_value_and_no_score_is_too_low(
    logged: list[int],
    wanted: list[int],
    truth: list[float],
    says: list[float],
    hold: float,
    is_difference: bool,
) -> None:
    q, target, chances, model = normal(logged), normal(wanted), np.array(truth), np.array(says)
    weights, shares = target / q, target
    if is_difference:
        hold = max(hold, 1.0)
        weights, shares = weights - 1.0, target - q
    sides = Sides(is_difference=is_difference, hold=hold)
    expected = np.zeros(2)
    for place in range(3):
        chosen = np.arange(3) == place
        for reward, chance in ((1.0, chances[place]), (0.0, 1.0 - chances[place])):
            gain, lack, _ = scores(weights, shares, chosen, reward, model, hold)
            assert min(gain, lack) >= sides.gains.least - 1e-9
            expected += q[place] * chance * np.array([gain, lack])
    value = float(shares @ chances)
    assert expected == pytest.approx([value, sides.whole - value], abs=1e-9)


def take(judge: Judge, target: np.ndarray, q: np.ndarray, index: int, reward: float) -> None:
    (score,) = score_all(target[None], q, index, reward, np.full(q.size, 0.5))
    judge.take(score)


def judged(records: list[tuple[np.ndarray, np.ndarray, int, float]]) -> Judge:
    judge = Judge()
    for target, q, index, reward in records:
        take(judge, target, q, index, reward)
    return judge


def some_records(
    count: int = 400, seed: int = 1
) -> list[tuple[np.ndarray, np.ndarray, int, float]]:
    chance = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        q, target = chance.dirichlet(np.ones(3)), chance.dirichlet(np.ones(3))
        index = int(chance.choice(3, p=q))
        made.append((target, q, index, float(chance.random() < 0.2 + 0.3 * index)))
    return made


def test_ips_and_snips_are_the_formulas_of_public_estimators() -> None:
    records = some_records()
    judge = judged(records)
    weights = np.array([target[index] / q[index] for target, q, index, _ in records])
    rewards = np.array([reward for *_, reward in records])
    # As vw-estimators 0.2.2 has them (ips, snips); docs/evaluation.md names the comparison.
    assert judge.estimate("ips", 0.05).value == pytest.approx((weights * rewards).sum() / 400)
    snips = (weights * rewards).sum() / weights.sum()
    assert judge.estimate("snips", 0.05).value == pytest.approx(snips)
    assert judge.effective_sample_size == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert judge.largest_weight == pytest.approx(weights.max())
    spread = (weights**2 * (rewards - snips) ** 2).sum() ** 0.5 / weights.sum()
    estimate = judge.estimate("snips", 0.05)
    assert estimate.high - snips == pytest.approx(1.959963984540054 * spread)
    assert not estimate.anytime
    assert judge.estimate("ips", 0.05).anytime


def test_the_logging_policy_judged_by_its_own_probabilities_earns_the_mean() -> None:
    records = [(q, q, index, reward) for _, q, index, reward in some_records()]
    judge = judged(records)
    mean = sum(reward for *_, reward in records) / len(records)
    for method in ("dr", "ips", "snips"):
        estimate = judge.estimate(method, 0.05)
        assert estimate.value == pytest.approx(mean)
        assert estimate.low < mean < estimate.high
    assert judge.difference(0.05).value == pytest.approx(0.0)


def test_a_record_that_does_not_cover_the_target_is_left_out_and_counted() -> None:
    q = np.array([1.0, 0.0, 0.0])
    judge = judged([(np.array([0.9, 0.1, 0.0]), q, 0, 1.0), (q, q, 0, 1.0)])
    assert (judge.uncovered, judge.n) == (1, 1)


def test_one_that_nothing_is_known_of_says_so_and_not_zero() -> None:
    estimate = Judge().estimate("dr", 0.05)
    assert (estimate.n, estimate.low, estimate.high) == (0, 0.0, 1.0)
    assert not estimate.tells
    assert estimate.needed is None


def test_so_many_more_records_do_narrow_it() -> None:
    records = some_records(300)
    judge = judged(records)
    needed = judge.estimate("dr", 0.05).needed
    assert needed is not None
    for record in some_records(needed, seed=2):
        take(judge, *record)
    estimate = judge.estimate("dr", 0.05)
    assert 0.15 < estimate.high - estimate.low < 0.25


def test_a_smaller_error_makes_a_wider_interval() -> None:
    judge = judged(some_records())
    wide, narrow = judge.difference(0.05 / 4), judge.difference(0.05)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_lift_is_what_was_learned_less_the_control_share() -> None:
    chance = np.random.default_rng(5)
    lift = Lift()
    for _ in range(4_000):
        control = bool(chance.random() < 0.2)
        reward = float(chance.random() < (0.3 if control else 0.6))
        lift.take(control, 0.2, reward, 0.5)
    estimate = lift.estimate(0.05)
    assert estimate is not None
    assert estimate.low > 0.1
    assert estimate.low < 0.3 < estimate.high
    assert estimate.value == pytest.approx(0.3, abs=0.05)
    assert sum(lift.counts) == 4_000


def test_without_a_control_share_there_is_no_lift() -> None:
    lift = Lift()
    lift.take(control=False, share=0.0, reward=1.0, expected=0.5)
    assert lift.estimate(0.05) is None
    assert lift.without_control == 1


def test_the_numbers_are_those_of_vw_estimators() -> None:
    judge = Judge()
    low, high = LowerBound(0.0, rho=1.0), LowerBound(0.0, rho=1.0)
    for n in range(200):
        q, p = 0.2 + (n * 7 % 5) / 10, 0.1 + (n * 3 % 4) / 5
        reward = float(n * 11 % 3 == 0)
        take(judge, np.array([p, 1 - p]), np.array([q, 1 - q]), 0, reward)
        low.take(p / q * reward)
        high.take(p / q * (1.0 - reward))
    # Printed by vw-estimators 0.2.2: bandits.ips, bandits.snips, bandits.cs (rho = 1, there fixed).
    assert judge.estimate("ips", 0.05).value == pytest.approx(0.3854166666666668, abs=1e-12)
    assert judge.estimate("snips", 0.05).value == pytest.approx(0.33225574712643696, abs=1e-12)
    for alpha, ends in (
        (0.05, [0.19227795647642265, 0.4653396515255309]),
        (0.2, [0.2198744388010176, 0.4328550731615396]),
    ):
        found = [low.low(alpha / 2), 1.0 - high.low(alpha / 2)]
        assert found == pytest.approx(ends, abs=1e-9)
