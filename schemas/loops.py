"""Loops: the whole configuration of one decision loop, as one record of its log."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

from schemas.checks import PPB, check_finite, check_id, check_range
from schemas.decisions import Mode, RewardRules
from schemas.errors import InvalidRecord

Role = Literal["unknown", "serving", "shadow", "retired"]


@dataclass(frozen=True, slots=True)
class Wording:
    """The words of an action in one language."""

    language: str
    """A BCP 47 tag such as ``en`` or ``pt-BR``."""
    text: str
    """The words."""
    voice: str = ""
    """Wish for a voice, empty for the kiosk's own."""


@dataclass(frozen=True, slots=True)
class ActionConfigured:
    """One action a loop can choose, with its words."""

    id: str
    """The action's id; stable, since what was learned hangs on it."""
    wordings: tuple[Wording, ...] = ()
    """Its words, one for each language."""
    mood: str = ""
    """Mood of the avatar that says it."""
    enabled: bool = True
    """False: offered to nobody, keeps its place and what was learned of it."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number an algorithm is set with."""

    name: str
    """Its name, as the algorithm's documentation says."""
    value: float
    """Its value."""


@dataclass(frozen=True, slots=True)
class PolicyConfigured:
    """One policy of a loop."""

    policy_id: str
    """Its id within the loop."""
    algorithm: str
    """Name of the algorithm: ``thompson``, ``uniform``, ``fixed`` …"""
    role: Role = "serving"
    """Whether it decides, or only learns beside."""
    parameters: tuple[Parameter, ...] = ()
    """Its numbers; what is not named has the algorithm's default."""


@dataclass(frozen=True, slots=True)
class VariantConfigured:
    """One arm of an A/B split."""

    name: str
    """Name of the variant."""
    policy_id: str
    """The policy behind it."""
    share_ppb: int
    """Its share of the decisions, in 1e-9."""


@dataclass(frozen=True, slots=True)
class LoopConfigured:
    """The whole configuration of a loop: what decides, out of what, and how it is rewarded."""

    loop_id: str
    """The loop."""
    config_hash: str
    """Hash over everything else here; names this configuration for ever."""
    features_hash: str
    """Hash over `feature_names` in their order."""
    feature_names: tuple[str, ...]
    """The features of the context, in the order of the dense vector."""
    actions: tuple[ActionConfigured, ...]
    """The actions in the order they are offered."""
    baseline_id: str
    """The action that the control share gets, and every fallback."""
    default_language: str
    """Language of the words where the visitor's own is not there."""
    seed: int
    """Seed of the draws, a signed 64-bit number."""
    mode: Mode
    """Who is in charge."""
    control_share_ppb: int
    """Share of decisions that get the baseline whatever the policy says, in 1e-9."""
    floor_ppb: int
    """Exploration floor: the share spread evenly over the eligible actions, in 1e-9."""
    rules: RewardRules
    """How a reaction becomes a reward."""
    policies: tuple[PolicyConfigured, ...]
    """The policies; the first with role ``serving`` decides where there is no split."""
    split: tuple[VariantConfigured, ...] = ()
    """The A/B split; empty: none."""
    labels: tuple[str, ...] = ()
    """Objects and brands worth keeping from an analysis; all others are dropped there."""

    def __post_init__(self) -> None:
        check_id("loop_id", self.loop_id)
        check_range("control_share_ppb", self.control_share_ppb, 0, PPB)
        check_range("floor_ppb", self.floor_ppb, 0, PPB)
        check_range("seed", self.seed, -(2**63), 2**63 - 1)
        ids = [action.id for action in self.actions]
        for action_id in ids:
            check_id("action id", action_id)
        for policy in self.policies:
            for parameter in policy.parameters:
                check_finite(f"{policy.policy_id}.{parameter.name}", parameter.value)
        if self.baseline_id not in ids or len(set(ids)) != len(ids):
            problem = f"loop {self.loop_id!r} has actions {ids} and baseline {self.baseline_id!r}"
            raise InvalidRecord(problem, "Name each action once, and the baseline among them")
        if not any(policy.role == "serving" for policy in self.policies):
            problem = f"loop {self.loop_id!r} has no policy with the role 'serving'"
            raise InvalidRecord(problem, "Give it one")
        if self.split and sum(variant.share_ppb for variant in self.split) != PPB:
            problem = f"the split of loop {self.loop_id!r} does not add up to 1e9"
            raise InvalidRecord(problem, "Let the shares of its variants add up to the whole")

    @property
    def action_ids(self) -> tuple[str, ...]:
        """The ids of the actions, in the order offered."""
        return tuple(action.id for action in self.actions)

    @property
    def serving(self) -> PolicyConfigured:
        """The policy that decides where there is no split."""
        return next(policy for policy in self.policies if policy.role == "serving")

    def action(self, action_id: str) -> ActionConfigured:
        """Return the action of that id.

        Raises
        ------
        StopIteration
            When the loop has no such action.
        """
        return next(action for action in self.actions if action.id == action_id)


def with_hash(config: LoopConfigured) -> LoopConfigured:
    """Return a configuration with its `config_hash`: 32 hex digits over everything else in it.

    Fields that have their default are left out of what is hashed, so that a field added by a
    later release leaves the hash of a configuration that does not use it as it was.
    """
    told = {name: value for name, value in _told(config).items() if name != "config_hash"}
    text = json.dumps(told, sort_keys=True, ensure_ascii=False)
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return replace(config, config_hash=digest)


def _told(value: Any) -> Any:
    if is_dataclass(value):
        pairs = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: _told(inner) for field, inner in pairs if inner != field.default}
    if isinstance(value, tuple):
        return [_told(inner) for inner in value]
    return value
