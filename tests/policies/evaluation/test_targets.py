"""A target knows the past of a record and nothing of the record itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

import judged
import worlds
from policies.evaluation.comparing import ALL, Comparison
from policies.evaluation.records import Logged, RewardRange, logged
from policies.evaluation.reward_model import RewardModel
from policies.evaluation.targets import (
    BestFixed,
    FixedAction,
    Kept,
    LoggedPolicy,
    Progressive,
    Uniform,
    plain_targets,
)
from policies.registry import prior
from policies.snapshots import Identity, take
from schemas.checks import PPB
from schemas.decisions import Choice, OfferedAction, VariantOffer
from schemas.errors import InvalidRecord
from schemas.loops import PolicyConfigured
from schemas.outcomes import OutcomeClosed

LOOP = judged.config()
REWARDS = RewardRange(-1.0, 1.0)
OUTCOMES = [outcome for _, outcome in islice(judged.history(LOOP, 60), 60)]
RECORDS = [logged(outcome, REWARDS) for outcome in OUTCOMES]
LEARNER = PolicyConfigured("mine", "thompson", "shadow")


def otherwise(record: Logged) -> Logged:
    """Return the record with another reward."""
    reward = 0.0 if record.reward == 1.0 else 1.0
    outcome = replace(record.outcome, reward=REWARDS.to_reward(reward))
    return replace(record, outcome=outcome, reward=reward)


def is_late(record: Logged) -> bool:
    """Whether a record closed only after five more decisions."""
    return record.outcome.closed_at_ms > record.outcome.choice.decided_at_ms + 5_000


def asked_of(records: list[Logged]) -> list[np.ndarray]:
    target, found = Progressive(LOOP, LEARNER), []
    for record in records:
        says = target.probabilities(record)
        assert says is not None
        found.append(says)
        target.learn(record)
    return found


def test_an_algorithm_that_learns_uses_an_outcome_only_once_it_had_closed() -> None:
    changed = next(place for place, record in enumerate(RECORDS) if place > 20 and is_late(record))
    plain = asked_of(RECORDS)
    other = asked_of([*RECORDS[:changed], otherwise(RECORDS[changed]), *RECORDS[changed + 1 :]])
    closed_ms = RECORDS[changed].outcome.closed_at_ms
    same = [
        place
        for place, record in enumerate(RECORDS)
        if place <= changed or record.outcome.choice.decided_at_ms < closed_ms
    ]
    assert max(same) == changed + 5
    for place in same:
        assert np.array_equal(plain[place], other[place])
    assert not np.array_equal(plain[-1], other[-1])


def test_an_algorithm_learns_what_the_job_learned() -> None:
    # The one that logged learned at once; this one as they close, so at the end they agree.
    target = Progressive(LOOP, replace(LEARNER, policy_id="main"))
    for record in RECORDS:
        target.probabilities(record)
        target.learn(record)
    policy = prior(LOOP)
    for outcome in sorted(OUTCOMES, key=lambda outcome: outcome.closed_at_ms):
        policy = policy.learn(outcome)
    last = OUTCOMES[-1].choice
    late = logged(replace(OUTCOMES[-1], choice=replace(last, decided_at_ms=2**41)), REWARDS)
    says = target.probabilities(late)
    assert says is not None
    mine = policy.probabilities(last.features, late.eligible)
    assert says[1:] == pytest.approx((0.95 * (0.92 * mine + 0.08 / 3))[1:], abs=3e-9)


def test_a_model_expects_nothing_of_what_it_was_not_taught() -> None:
    model = RewardModel()
    for record in RECORDS:
        before = model.expects(record)
        assert np.array_equal(model.expects(otherwise(record)), before)
        model.learn(record)
    assert not np.array_equal(model.expects(RECORDS[-1]), np.full(3, 0.5))


def test_the_best_fixed_action_is_chosen_by_the_past() -> None:
    target = BestFixed()
    first = target.probabilities(RECORDS[0])
    assert first is not None
    assert first.tolist() == [1.0, 0.0, 0.0]
    for record in RECORDS:
        target.learn(record)
    assert target.action_id == "a1"
    last = target.probabilities(RECORDS[-1])
    assert last is not None
    assert last.tolist() == [0.0, 1.0, 0.0]


def test_a_policy_in_shadow_is_what_was_logged_of_it_and_silent_where_nothing_was() -> None:
    perfect, main = LoggedPolicy(judged.PERFECT), LoggedPolicy("main")
    shares = RECORDS[0].outcome.choice.shadows[0].probabilities_ppb
    says = perfect.probabilities(RECORDS[0])
    assert says is not None
    assert (says * PPB).round().astype(int).tolist() == list(shares)
    assert main.probabilities(RECORDS[0]) is RECORDS[0].probabilities
    assert LoggedPolicy("nobody").probabilities(RECORDS[0]) is None
    shadow = replace(RECORDS[0].outcome.choice.shadows[0], probabilities_ppb=(PPB, 1, 0))
    choice = replace(RECORDS[0].outcome.choice, shadows=(shadow,))
    torn = replace(RECORDS[0], outcome=replace(OUTCOMES[0], choice=choice))
    assert perfect.probabilities(torn) is None


def test_a_snapshot_says_nothing_of_what_it_may_have_learned_from() -> None:
    learned_ms = OUTCOMES[30].choice.decided_at_ms
    identity = Identity("main", 0, 31, "serving", 0, LOOP.floor_ppb, "d", learned_ms)
    target = Kept(take(prior(LOOP), identity, LOOP), LOOP)
    says = [target.probabilities(record) is not None for record in RECORDS]
    assert says == [place > 30 for place in range(60)]
    assert target.too_early == 31


def test_an_excluded_action_gets_nothing() -> None:
    choice = RECORDS[0].outcome.choice
    actions = (replace(choice.actions[0], eligible=False), *choice.actions[1:])
    shut = replace(RECORDS[0], outcome=replace(OUTCOMES[0], choice=_unchecked(choice, actions)))
    assert FixedAction("a0").probabilities(shut) is None
    says = Uniform().probabilities(shut)
    assert says is not None
    assert says.tolist() == [0.0, 0.5, 0.5]


def _unchecked(choice: Choice, actions: tuple[OfferedAction, ...]) -> Choice:
    made = replace(choice)
    object.__setattr__(made, "actions", actions)
    return made


def broken(**changes: object) -> OutcomeClosed:
    choice = replace(OUTCOMES[0].choice)
    for name, value in changes.items():
        object.__setattr__(choice, name, value)
    return replace(OUTCOMES[0], choice=choice)


@pytest.mark.parametrize(
    "changes",
    [
        {"actions": ()},
        {"propensity_ppb": 0},
        {"propensity_ppb": 1},
        {"action_id": "a9"},
        {"actions": tuple(replace(a, probability_ppb=0) for a in OUTCOMES[0].choice.actions)},
        {"actions": OUTCOMES[0].choice.actions * 2},
    ],
)
def test_a_record_without_true_probabilities_is_refused_and_counted(
    changes: dict[str, object],
) -> None:
    outcome = broken(**changes)
    with pytest.raises(InvalidRecord):
        logged(outcome, REWARDS)
    comparison = Comparison(list(plain_targets().values()), REWARDS)
    comparison.take(outcome)
    assert comparison.refused.total() == 1
    assert comparison.slices[ALL].n == 0


def test_a_reward_outside_its_range_is_refused() -> None:
    with pytest.raises(InvalidRecord, match=r"0\.0 to 0\.5"):
        logged(replace(OUTCOMES[0], reward=0.75), RewardRange(0.0, 0.5))
    with pytest.raises(InvalidRecord, match="earn the same"):
        RewardRange(0.0, 0.0)


def test_a_degenerate_decision_serves_only_the_target_that_it_covers() -> None:
    sure = worlds.decided("d", worlds.START_MS, judged.config("fixed"))
    targets = [FixedAction("a0"), FixedAction("a1"), *plain_targets().values()]
    comparison = Comparison(targets, REWARDS)
    comparison.take(worlds.outcome(sure, 0.5))
    judges = comparison.slices[ALL].judges
    assert [judge.n for judge in judges] == [1, 0, 1, 0, 1]
    assert [judge.uncovered for judge in judges] == [0, 1, 0, 1, 0]


def test_what_earned_nothing_is_counted_and_not_judged() -> None:
    comparison = Comparison(list(plain_targets().values()), REWARDS)
    comparison.take(replace(OUTCOMES[0], result="dropped"))
    assert (comparison.no_reward, comparison.slices[ALL].n) == (1, 0)


def test_within_a_variant_what_chose_is_the_variant_and_not_the_mixture() -> None:
    offers = (
        VariantOffer("a", "main", 0, 0, PPB // 2, (PPB // 2, PPB // 4, PPB // 4)),
        VariantOffer("b", "main", 0, 0, PPB // 2, (0, PPB, 0)),
    )
    choice = replace(OUTCOMES[0].choice, variant="b", variants=offers)
    assert choice.action_id == "a1"
    outcome = replace(OUTCOMES[0], choice=choice)
    assert logged(outcome, REWARDS, given_variant=True).probabilities.tolist() == [0.0, 1.0, 0.0]
    mixture = [action.probability_ppb / PPB for action in choice.actions]
    assert logged(outcome, REWARDS).probabilities.tolist() == mixture
    lost = replace(outcome, choice=replace(choice, variants=offers[:1]))
    with pytest.raises(InvalidRecord, match="variant"):
        logged(lost, REWARDS, given_variant=True)
