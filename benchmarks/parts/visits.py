"""The visits the benchmarks play: 8 greetings, 8 features, Thompson sampling, a 30 s window."""

from __future__ import annotations

from typing import Any

from schemas.decisions import DecisionShown, RewardRules, VisitEnded
from schemas.features import features_hash
from schemas.frames import Box, Face, FrameAnalyzed, Score
from schemas.loops import ActionConfigured, LoopConfigured, PolicyConfigured, Wording, with_hash

START_MS = 1_767_600_000_000
LOOP_ID = "greeting"
LIFE_MS = 5_000
"""From the deciding frame to the end of the visit."""
_FEATURES = (
    "bias",
    "happy",
    "daypart.morning",
    "daypart.afternoon",
    "daypart.evening",
    "happy:daypart.morning",
    "happy:daypart.afternoon",
    "happy:daypart.evening",
)


def loop(reaction_delay_ms: int = 500) -> LoopConfigured:
    """Return the loop's configuration."""
    config = LoopConfigured(
        loop_id=LOOP_ID,
        config_hash="",
        features_hash=features_hash(_FEATURES),
        feature_names=_FEATURES,
        actions=tuple(
            ActionConfigured(f"greeting-{i}", (Wording("en", f"Hello, it is good to see you {i}"),))
            for i in range(8)
        ),
        baseline_id="greeting-0",
        default_language="en",
        seed=7,
        mode="online",
        control_share_ppb=50_000_000,
        floor_ppb=80_000_000,
        rules=RewardRules(
            activation="at_impression",
            reward_window_ms=30_000,
            grace_ms=2_000,
            aggregation="latest",
            reward_low=-1.0,
            reward_high=1.0,
            default_reward=0.0,
            missing="default",
            reaction_delay_ms=reaction_delay_ms,
            min_confidence=0.5,
            closing_reactions=0,
            dedup_horizon_ms=600_000,
        ),
        policies=(PolicyConfigured("main", "thompson"),),
    )
    return with_hash(config)


def name(number: int) -> str:
    """Return the id of a visit: always as long, so that ids can be exchanged in bytes."""
    return f"visit-{number:010d}"


def analysed(number: int, phase: Any, at_ms: int) -> FrameAnalyzed:
    """Return the answer to a frame of a visit: one face, as the local analyser tells it."""
    happy = number * 7 % 100 / 100.0 if phase == "pre" else number * 13 % 100 / 100.0
    visit_id = name(number)
    face = Face(
        Box(0.31, 0.22, 0.24, 0.41),
        0.93,
        (Score("happy", happy), Score("neutral", 1.0 - happy)),
        smile=happy,
        quality=0.8,
    )
    return FrameAnalyzed(
        frame_id=f"{visit_id}.{phase}",
        decision_id=visit_id,
        visit_id=visit_id,
        loop_id=LOOP_ID,
        kiosk_id="kiosk-1",
        phase=phase,
        sequence=int(phase == "post"),
        captured_at_ms=at_ms,
        width=640,
        height=360,
        notice="page",
        status="ok",
        analyser="local",
        analyser_version="1",
        milliseconds=21.5,
        faces=(face,),
    )


def shown(number: int, action_id: str, at_ms: int) -> DecisionShown:
    """Return the impression of a visit's greeting."""
    visit_id = name(number)
    return DecisionShown(f"{visit_id}.shown", visit_id, LOOP_ID, action_id, at_ms)


def ended(number: int, at_ms: int) -> VisitEnded:
    """Return the end of a visit that took one picture after its greeting."""
    visit_id = name(number)
    posts = (f"{visit_id}.post",)
    return VisitEnded(
        f"{visit_id}.ended", visit_id, visit_id, LOOP_ID, "kiosk-1", "left", at_ms, posts
    )
