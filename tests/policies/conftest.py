"""One small loop and its outcomes, for every test of a policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from schemas.checks import PPB
from schemas.decisions import Choice, Features, OfferedAction, RewardRules
from schemas.features import features_hash
from schemas.loops import ActionConfigured, LoopConfigured, Parameter, PolicyConfigured
from schemas.outcomes import OutcomeClosed

FEATURES = ("bias", "happy", "age")
ACTIONS = ("hello", "welcome", "good-day")

MakeConfig = Callable[..., LoopConfigured]
MakeOutcome = Callable[..., OutcomeClosed]


def _rules() -> RewardRules:
    return RewardRules(
        activation="at_decision",
        reward_window_ms=30_000,
        grace_ms=2_000,
        aggregation="latest",
        reward_low=-1.0,
        reward_high=1.0,
        default_reward=0.0,
        missing="default",
        reaction_delay_ms=0,
        min_confidence=0.5,
        closing_reactions=0,
        dedup_horizon_ms=600_000,
    )


@pytest.fixture(scope="session")
def make_config() -> MakeConfig:
    """Return a maker of loops with one policy, ``main``."""

    def make(
        algorithm: str = "thompson",
        actions: Sequence[str] = ACTIONS,
        features: tuple[str, ...] = FEATURES,
        **parameters: float,
    ) -> LoopConfigured:
        numbers = tuple(Parameter(name, value) for name, value in parameters.items())
        return LoopConfigured(
            loop_id="greetings",
            config_hash="c0",
            features_hash=features_hash(features),
            feature_names=features,
            actions=tuple(ActionConfigured(action) for action in actions),
            baseline_id=actions[0],
            default_language="en",
            seed=7,
            mode="online",
            control_share_ppb=PPB // 10,
            floor_ppb=PPB // 20,
            rules=_rules(),
            policies=(PolicyConfigured("main", algorithm, "serving", numbers),),
        )

    return make


@pytest.fixture(scope="session")
def make_outcome() -> MakeOutcome:
    """Return a maker of outcomes: an action, its context, its reward, its precision."""
    choice = Choice(
        decision_id="d",
        loop_id="greetings",
        config_hash="c0",
        host="stream",
        decided_at_ms=0,
        features_hash="",
        features=Features(),
        actions=(OfferedAction("hello", True, PPB, PPB),),
        baseline_id="hello",
        action_id="hello",
        propensity_ppb=PPB,
        draw_ppb=0,
        control=False,
        control_share_ppb=0,
        floor_ppb=0,
        support="full",
        mode="online",
        policy_id="main",
        epoch=0,
        version=0,
        policy_checksum="",
    )

    def make(
        action: str, x: Sequence[float], reward: float, precision: float = 1.0
    ) -> OutcomeClosed:
        made = replace(
            choice,
            features=Features(dense=tuple(x)),
            actions=(OfferedAction(action, True, PPB, PPB),),
            action_id=action,
        )
        return OutcomeClosed(
            choice=made,
            result="rewarded",
            result_reason="observed",
            source="reaction",
            reward_raw=reward,
            reward=reward,
            clipped=False,
            precision=precision,
            closed_by="reactions",
            closed_at_ms=0,
            learnable=True,
            learnable_reason="",
        )

    return make
