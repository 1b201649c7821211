"""Why a policy chose what it did, and what each policy learned from it: a walk of the learning log.

A policy's version is rebuilt as a prefix of that log; the record behind the decision's outcome then
shows what the outcome changed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipelines.learners import Learner
from policies.base import Policy, dense
from policies.linear import LinearPosterior
from policies.registry import prior
from schemas.decisions import Choice, DecisionMade
from schemas.errors import PhoError
from schemas.loops import LoopConfigured
from schemas.outcomes import OutcomeClosed
from schemas.streams import DEAD_LETTERS
from serving.comparing import mean_weights
from serving.receipt_lookup import Lookup, Taught


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature adds to what an action is expected to earn."""

    feature: str
    """Its name."""
    value: float
    """Its value in this context."""
    weight: float
    """Its mean weight for the action."""

    @property
    def reward(self) -> float:
        """Weight times value."""
        return self.weight * self.value


@dataclass(frozen=True, slots=True)
class Expected:
    """What a policy expected of one action."""

    action: str
    """The action."""
    mean: float
    """Expected reward: the contributions add up to it."""
    deviation: float
    """Standard deviation of that expectation."""
    contributions: tuple[Contribution, ...]
    """The largest first; features that are 0 here are left out."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """Why a policy gave the chosen action its probability."""

    algorithm: str
    """Name of the algorithm; empty: its version is not known any more."""
    text: str
    """In a sentence."""
    expected: tuple[Expected, ...] = field(default=())
    """Of the chosen action, then of the runner-up."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "text": self.text,
            "expected": [
                {
                    "action": each.action,
                    "mean": each.mean,
                    "deviation": each.deviation,
                    "contributions": [
                        {**asdict(part), "contribution": part.reward} for part in each.contributions
                    ],
                }
                for each in self.expected
            ],
        }


@dataclass(frozen=True, slots=True)
class Learnt:
    """What one policy learned from an outcome."""

    policy_id: str
    """The policy."""
    role: str
    """Its role at that time."""
    epoch: int
    """Its epoch."""
    version_before: int
    """Its version before."""
    version_after: int
    """Its version after; the same: it learned nothing."""
    probability_before: float | None
    """What it gave the chosen action in this context before, 0..1; None: it cannot say."""
    probability_after: float | None
    """The same after."""
    why_not: str = ""
    """Why it learned nothing; empty: it did."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def learnt(
    lookup: Lookup,
    decision: DecisionMade,
    config: LoopConfigured | None,
    outcome: OutcomeClosed | None,
) -> tuple[Weighed, tuple[Learnt, ...]]:
    """Say why a policy chose as it did, and what each policy learned from the outcome.

    Parameters
    ----------
    lookup : Lookup
        Walks the learning log.
    decision : DecisionMade
        The decision.
    config : LoopConfigured or None
        The configuration it names, where the log has it.
    outcome : OutcomeClosed or None
        Its outcome; None: it is still open, and only the policy's version is looked for.
    """
    choice = decision.choice
    chooser: Policy | None = None
    if (choice.epoch, choice.version) == (0, 0) and config is not None:
        chooser = _prior(config, choice)
    wants_chooser = chooser is None and choice.mode != "fallback"
    found, taught = lookup.learned(choice, chooser=wants_chooser, outcome=outcome is not None)
    told = tuple(_each(taught, taught.step.record.value)) if taught is not None else ()
    return weigh(choice, chooser or found), told


def _prior(config: LoopConfigured, choice: Choice) -> Policy | None:
    for configured in config.policies:
        if configured.policy_id == choice.policy_id:
            return prior(config, configured)
    return None


def _each(taught: Taught, outcome: OutcomeClosed) -> list[Learnt]:
    state, after = taught.before, taught.step
    refused = next((e.value for e in after.emits if e.stream == DEAD_LETTERS), None)
    found = []
    for was in state.learners if state is not None else ():
        now = after.state.learner(was.policy_id) if after.state is not None else None
        now = now or was
        found.append(
            Learnt(
                policy_id=was.policy_id,
                role=was.role,
                epoch=now.epoch,
                version_before=was.version,
                version_after=now.version,
                probability_before=_probability(was.policy, outcome.choice),
                probability_after=_probability(now.policy, outcome.choice),
                why_not=_why_not(was, now, outcome, refused),
            )
        )
    return found


def _why_not(was: Learner, now: Learner, outcome: OutcomeClosed, refused: Any) -> str:
    if now.version != was.version:
        return ""
    if refused is not None:
        return f"it became a dead letter: {refused.error}"
    if not outcome.learnable:
        return f"it is not learnable: {outcome.learnable_reason}"
    if was.role == "retired":
        return "the policy is retired"
    if outcome.choice.config_hash not in was.config_hashes:
        return "its configuration belongs to another epoch"
    if outcome.precision == 0.0:
        return "its precision is 0"
    if outcome.choice.action_id not in was.policy.actions:
        return "the policy does not have that action"
    return f"{was.policy.algorithm} learns nothing from outcomes"


def _probability(policy: Policy, choice: Choice) -> float | None:
    """Return what a policy alone says of the chosen action in the context of the choice."""
    try:
        offered = tuple(action.id for action in choice.actions)
        if tuple(policy.actions) != offered:
            policy = policy.with_actions(offered)
        eligible = [action.eligible for action in choice.actions]
        said = policy.probabilities(choice.features, eligible)
    except PhoError:
        return None
    return float(said[offered.index(choice.action_id)])


def weigh(choice: Choice, chooser: Policy | None) -> Weighed:
    """Say why a policy gave the chosen action its probability.

    Parameters
    ----------
    choice : Choice
        The choice.
    chooser : Policy or None
        The policy at the version that chose; None: it cannot be built again.
    """
    if choice.mode == "fallback":
        return Weighed("", "No policy was asked: the baseline stood in as a fallback.")
    if chooser is None:
        version = f"epoch {choice.epoch} version {choice.version}"
        return Weighed("", f"{version} cannot be built again: its learning log was erased or cut.")
    offered = tuple(action.id for action in choice.actions)
    if tuple(chooser.actions) != offered:
        chooser = chooser.with_actions(offered)
    weights = mean_weights(chooser)
    if weights is None:
        return Weighed(chooser.algorithm, f"{chooser.algorithm} does not weigh features.")
    posterior: LinearPosterior = chooser.posterior  # type: ignore[attr-defined]
    x = dense(choice.features, len(chooser.features))
    means, variances = posterior.estimates(x)
    places = [offered.index(choice.action_id)]
    rivals = [each for each in choice.actions if each.eligible and each.id != choice.action_id]
    if rivals:
        best = max(rivals, key=lambda each: each.policy_probability_ppb)
        places.append(offered.index(best.id))
    expected = tuple(
        Expected(
            offered[place],
            float(means[place]),
            float(np.sqrt(variances[place])),
            _contributions(chooser.features, x.tolist(), weights[:, place].tolist()),
        )
        for place in places
    )
    return Weighed(chooser.algorithm, _sentence(choice, expected), expected)


def _contributions(
    features: tuple[str, ...], values: list[float], weights: list[float]
) -> tuple[Contribution, ...]:
    parts = [
        Contribution(name, value, weight)
        for name, value, weight in zip(features, values, weights, strict=True)
        if value
    ]
    return tuple(sorted(parts, key=lambda part: -abs(part.reward)))


def _sentence(choice: Choice, expected: tuple[Expected, ...]) -> str:
    first = expected[0]
    said = f"{first.action} is expected to earn {first.mean:+.3f} ± {first.deviation:.3f}"
    if len(expected) > 1:
        other = expected[1]
        said += f"; {other.action}, the likeliest other, {other.mean:+.3f} ± {other.deviation:.3f}"
    if choice.control:
        return f"The draw fell into the control share: the baseline, whatever is known. {said}."
    return f"{said}."
