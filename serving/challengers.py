"""Challengers: whether a policy in shadow would earn more than the one that serves."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.logs import Log
from policies.evaluation.comparing import ALL, Comparison
from policies.evaluation.estimators import Estimate
from policies.evaluation.order import InOrder
from policies.evaluation.records import RewardRange
from policies.evaluation.targets import LoggedPolicy
from schemas.loops import LoopConfigured
from serving.closed_decisions import configurations, loop_named, outcomes_in_order

ALPHA = 0.05
"""The chance that any challenger of a loop, at any moment, is called better and is not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of one challenger."""

    policy_id: str
    """The policy in shadow."""
    difference: float
    """Its value less that of the policy that serves, on the same decisions, in rewards."""
    low: float
    """Lower end of the interval, which holds at any moment."""
    high: float
    """Upper end of it."""
    n: int
    """Decisions it rests on."""
    better: bool
    """Whether the lower end is above zero."""
    text: str
    """The verdict, for a person to read."""


def verdicts(log: Log, loop_id: str, alpha: float = ALPHA) -> list[Verdict]:
    """Compare each policy in shadow with the one that serves, on the same decisions.

    Both are compared as the whole procedure they are or would be, control share and exploration
    included: the logged probabilities of the shadow against those that chose. Only decisions of
    the policy that serves now count, since it began to.

    Parameters
    ----------
    log : Log
        The log.
    loop_id : str
        The loop.
    alpha : float
        The chance that any verdict of better is wrong, ever; shared evenly among the challengers.

    Returns
    -------
    list of Verdict
        One for each configured policy that does not serve and stood in shadow at a decision.

    Raises
    ------
    UsageError
        When the log has no such loop.
    """
    configs = configurations(log)
    config = loop_named(configs, loop_id)
    rewards = RewardRange(config.rules.reward_low, config.rules.reward_high)
    serving_id = ""
    comparison = _fresh(config, rewards, serving_id)
    order = InOrder()
    alike = {
        key
        for key, known in configs.items()
        if (known.rules.reward_low, known.rules.reward_high) == (rewards.low, rewards.high)
    }
    for outcome in outcomes_in_order(log, loop_id, order):
        choice = outcome.choice
        if choice.mode == "fallback" or choice.config_hash not in alike:
            continue
        if choice.policy_id != serving_id:
            serving_id = choice.policy_id
            comparison = _fresh(config, rewards, serving_id)
        comparison.take(outcome)
    share = alpha / max(1, len(comparison.targets))
    found = []
    judged = zip(comparison.targets, comparison.slices[ALL].judges, strict=True)
    for target, judge in judged:
        if judge.n:
            difference = judge.difference(share).scaled(rewards.width)
            found.append(_verdict(target.name, serving_id, difference))
    return found


def _fresh(config: LoopConfigured, rewards: RewardRange, serving_id: str) -> Comparison:
    challengers = [
        LoggedPolicy(policy.policy_id)
        for policy in config.policies
        if policy.policy_id != serving_id
    ]
    return Comparison(challengers, rewards)


def _verdict(policy_id: str, serving_id: str, difference: Estimate) -> Verdict:
    value, low, high = difference.value, difference.low, difference.high
    numbers = f"{value:+.3f} ({low:+.3f} to {high:+.3f}) a decision against {serving_id}"
    text = f"{policy_id} earns {numbers} over {difference.n:,} decisions"
    if low > 0.0:
        text += ": better"
    elif high < 0.0:
        text += ": worse"
    else:
        text += ": not known to be better"
    return Verdict(policy_id, value, low, high, difference.n, low > 0.0, text)
