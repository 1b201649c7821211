"""The tables [loops.NAME]: greetings, policies and rules, as the loop's log has them."""

from __future__ import annotations

import msgspec

from policies.registry import prior
from schemas.checks import PPB, check_id
from schemas.decisions import RewardRules
from schemas.errors import PhoError, SettingsError
from schemas.features import check_feature_names, features_hash
from schemas.loops import (
    ActionConfigured,
    LoopConfigured,
    Parameter,
    PolicyConfigured,
    Role,
    Wording,
    with_hash,
)


class _Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    algorithm: str
    parameters: dict[str, float] = {}


class _Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    text: dict[str, str]
    mood: str = ""
    voice: str = ""
    enabled: bool = True


class LoopTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table [loops.NAME]."""

    baseline: str
    default_language: str
    seed: int
    control_share: float
    floor: float
    features: tuple[str, ...]
    policy: _Policy
    rules: RewardRules
    actions: tuple[_Action, ...]
    labels: tuple[str, ...] = ()
    shadows: tuple[_Policy, ...] = ()


def configured(name: str, loop: LoopTable) -> LoopConfigured:
    """Return a loop as its log has it.

    Parameters
    ----------
    name : str
        Its id.
    loop : LoopTable
        Its table.

    Raises
    ------
    SettingsError
        With what cannot be used.
    """
    check_feature_names(loop.features)
    try:
        config = LoopConfigured(
            loop_id=name,
            config_hash="",
            features_hash=features_hash(loop.features),
            feature_names=loop.features,
            actions=tuple(
                ActionConfigured(
                    action.id,
                    tuple(Wording(tag, text, action.voice) for tag, text in action.text.items()),
                    action.mood,
                    action.enabled,
                )
                for action in loop.actions
            ),
            baseline_id=loop.baseline,
            default_language=loop.default_language,
            seed=loop.seed,
            mode="online",
            control_share_ppb=_ppb(f"loops.{name}.control_share", loop.control_share),
            floor_ppb=_ppb(f"loops.{name}.floor", loop.floor),
            rules=loop.rules,
            policies=(
                _policy(loop.policy, "serving"),
                *(_policy(shadow, "shadow") for shadow in loop.shadows),
            ),
            labels=loop.labels,
        )
        _check_policies(config)
    except SettingsError:
        raise
    except PhoError as error:
        problem = f"loop {name!r} cannot be used: {error}"
        raise SettingsError(problem, "See docs/settings.md") from error
    return with_hash(config)


def _policy(policy: _Policy, role: Role) -> PolicyConfigured:
    parameters = tuple(Parameter(*pair) for pair in policy.parameters.items())
    return PolicyConfigured(policy.id, policy.algorithm, role, parameters)


def _check_policies(config: LoopConfigured) -> None:
    """Refuse policies that could not be made, or told apart."""
    ids = [policy.policy_id for policy in config.policies]
    if len(set(ids)) < len(ids):
        problem = f"loop {config.loop_id!r} has the policies {ids}"
        raise SettingsError(problem, "Give each an id of its own; shadows too")
    for policy in config.policies:
        check_id("policy id", policy.policy_id)
        prior(config, policy)
        if policy.algorithm.startswith("river:") and not config.floor_ppb:
            problem = f"loop {config.loop_id!r} hosts {policy.algorithm} with floor = 0"
            cure = "Give it a floor above 0: a guest always takes what it thinks best"
            raise SettingsError(problem, cure)


def _ppb(name: str, share: float) -> int:
    if not 0.0 <= share <= 1.0:
        problem = f"{name} is {share!r}"
        raise SettingsError(problem, "It is a share: 0 to 1")
    return round(share * PPB)
