"""From the reactions to one decision to its outcome."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.windows import Member, Open, Reason
from schemas.compiled import quick
from schemas.decisions import DecisionMade, RewardRules
from schemas.outcomes import ClosedBy, OutcomeClosed, Result, ResultReason, Source


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward before it is clipped."""

    value: float
    """The number."""
    source: Source
    """Where it comes from."""
    precision: float
    """How sure the observation is, 0..1."""
    member_ids: tuple[str, ...]
    """The records that made it, in the order they count."""
    happiness_after: float | None = None
    """Happiness after the greeting, 0..1."""
    confidence_after: float | None = None
    """Mean confidence of the faces after it, 0..1."""


_new_outcome = quick(OutcomeClosed)


def close(window: Open, closed_by: ClosedBy, closed_at_ms: int) -> OutcomeClosed:
    """Make the outcome of a decision: exactly one of rewarded, defaulted, dropped, not activated.

    Parameters
    ----------
    window : Open
        The decision with everything seen after it.
    closed_by : str
        Which rule closed it.
    closed_at_ms : int
        Log time of the record or timer that did, ms.
    """
    decision: DecisionMade = window.decision.value
    rules = decision.rules
    reward = observed(window, decision)
    result, why = _result(window, decision, reward)
    if reward is None:
        reward = Reward(rules.default_reward, "default", 1.0, ())
    clipped = min(max(reward.value, rules.reward_low), rules.reward_high)
    learnable = result in ("rewarded", "defaulted")
    return _new_outcome(
        choice=decision.choice,
        result=result,
        result_reason=why,
        source=reward.source,
        reward_raw=reward.value,
        reward=clipped,
        clipped=clipped != reward.value,
        precision=reward.precision,
        closed_by=closed_by,
        closed_at_ms=closed_at_ms,
        learnable=learnable,
        learnable_reason=result if learnable else why,
        shown_at_ms=window.shown.at_ms if window.shown else None,
        shown_action_id=window.shown.action_id if window.shown else None,
        happiness_after=reward.happiness_after,
        confidence_after=reward.confidence_after,
        member_ids=reward.member_ids,
    )


def _result(
    window: Open, decision: DecisionMade, reward: Reward | None
) -> tuple[Result, ResultReason]:
    if decision.choice.mode == "fallback":
        return "dropped", "fallback"
    if window.opened_at_ms is None:
        return "not_activated", "left_before_impression" if window.ended else "no_impression"
    if window.shown is not None and window.shown.action_id != decision.choice.action_id:
        return "dropped", "shown_other"
    if reward is not None:
        return "rewarded", "observed"
    if decision.rules.missing == "drop":
        return "dropped", "nothing_usable"
    return "defaulted", "nothing_usable"


def observed(window: Open, decision: DecisionMade) -> Reward | None:
    """Return what the reactions say, an explicit reward before a face; None: nothing usable."""
    members = [member for member in window.members if window.usable(member)]
    explicit = [member for member in members if member.kind == "reward"]
    if explicit:
        return _explicit(explicit, decision.rules)
    return _reaction([member for member in members if member.kind == "post"], decision)


def reason(window: Open, member: Member) -> Reason | None:
    """Say why a reaction does not count for the reward; None: it does.

    Parameters
    ----------
    window : Open
        The decision with everything seen after it.
    member : Member
        One of its reactions. What an explicit reward pushes aside has no flaw of its own.
    """
    flaw = window.flaw(member)
    if flaw is not None or member.kind == "reward":
        return flaw
    decision: DecisionMade = window.decision.value
    return None if _has_before(decision) else "unsure_before"


def _has_before(decision: DecisionMade) -> bool:
    choice = decision.choice
    if choice.happiness_before is None or choice.confidence_before is None:
        return False
    return choice.confidence_before >= decision.rules.min_confidence


def _explicit(members: list[Member], rules: RewardRules) -> Reward:
    members = sorted(members, key=lambda member: (member.at_ms, member.id))
    values = [member.value for member in members]
    match rules.aggregation:
        case "latest":
            value = values[-1]
        case "sum":
            value = sum(values)
        case "mean":
            value = sum(values) / len(values)
        case "max":
            value = max(values)
        case "min":
            value = min(values)
        case _:
            value = values[0]
    return Reward(value, "explicit", 1.0, tuple(member.id for member in members))


def _reaction(members: list[Member], decision: DecisionMade) -> Reward | None:
    before, confidence_before = decision.choice.happiness_before, decision.choice.confidence_before
    if not members or before is None or confidence_before is None or not _has_before(decision):
        return None
    # Floating-point sums depend on their order, so the order is part of the rule.
    members = sorted(members, key=lambda member: (member.at_ms, member.id))
    weight = weighted = 0.0
    for member in members:
        weight += member.confidence
        weighted += member.confidence * member.value
    after, confidence_after = weighted / weight, weight / len(members)
    return Reward(
        after - before,
        "reaction",
        min(confidence_before, confidence_after),
        tuple(member.id for member in members),
        after,
        confidence_after,
    )
