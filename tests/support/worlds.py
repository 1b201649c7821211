"""Small worlds for tests: a loop, visitors whose faces are numbers, and the records they cause."""

from __future__ import annotations

import dataclasses
from typing import Any

from pipelines.decide import decide
from pipelines.ready import make_ready
from schemas.decisions import (
    DecisionMade,
    DecisionShown,
    RewardObserved,
    RewardRules,
    VisitEnded,
)
from schemas.features import features_hash
from schemas.frames import Box, EdgeAnalysis, Face, FrameAnalyzed, FrameCaptured, Score
from schemas.loops import (
    ActionConfigured,
    LoopConfigured,
    PolicyConfigured,
    Wording,
    with_hash,
)
from schemas.outcomes import OutcomeClosed

START_MS = 1_767_600_000_000
FEATURES = ("bias", "happy", "daypart.morning", "daypart.afternoon", "daypart.evening")

RULES = RewardRules(
    activation="at_impression",
    reward_window_ms=5_000,
    grace_ms=500,
    aggregation="latest",
    reward_low=-1.0,
    reward_high=1.0,
    default_reward=0.0,
    missing="default",
    reaction_delay_ms=500,
    min_confidence=0.5,
    closing_reactions=0,
    dedup_horizon_ms=60_000,
)


def loop(actions: int = 3, algorithm: str = "thompson", **changes: Any) -> LoopConfigured:
    """Return a loop; keyword arguments replace its fields, and `rules` those of its rules."""
    rules = dataclasses.replace(RULES, **changes.pop("rules", {}))
    names = changes.pop("feature_names", FEATURES)
    config = LoopConfigured(
        loop_id="greeting",
        config_hash="",
        features_hash=features_hash(names),
        feature_names=names,
        actions=tuple(
            ActionConfigured(f"a{i}", (Wording("en", f"Hello {i}"), Wording("de", f"Hallo {i}")))
            for i in range(actions)
        ),
        baseline_id="a0",
        default_language="en",
        seed=7,
        mode="online",
        control_share_ppb=50_000_000,
        floor_ppb=80_000_000,
        rules=rules,
        policies=(PolicyConfigured("main", algorithm),),
    )
    return with_hash(dataclasses.replace(config, **changes))


def face(happy: float, confidence: float = 0.9, size: float = 0.3) -> Face:
    """Return a face as an analyser tells it."""
    return Face(Box(0.3, 0.2, size, size), confidence, (Score("happy", happy),), smile=happy)


def captured(
    decision_id: str, phase: Any, sequence: int, at_ms: int, happy: float | None, **changes: Any
) -> FrameCaptured:
    """Return a frame that a kiosk analysed by itself; happy None: no face."""
    faces = () if happy is None else (face(happy),)
    frame = FrameCaptured(
        frame_id=f"{decision_id}.{phase}.{sequence}",
        decision_id=decision_id,
        visit_id=decision_id,
        loop_id="greeting",
        kiosk_id="kiosk-1",
        phase=phase,
        sequence=sequence,
        captured_at_ms=at_ms,
        width=640,
        height=360,
        notice="page",
        edge_analysis=EdgeAnalysis(faces, "edge", "1"),
    )
    return dataclasses.replace(frame, **changes)


def analyzed(
    decision_id: str,
    phase: Any,
    sequence: int,
    at_ms: int,
    happy: float | None,
    confidence: float = 0.9,
    **changes: Any,
) -> FrameAnalyzed:
    """Return the answer to a frame; happy None: no face."""
    frame = FrameAnalyzed(
        frame_id=f"{decision_id}.{phase}.{sequence}",
        decision_id=decision_id,
        visit_id=decision_id,
        loop_id="greeting",
        kiosk_id="kiosk-1",
        phase=phase,
        sequence=sequence,
        captured_at_ms=at_ms,
        width=640,
        height=360,
        notice="page",
        status="ok" if happy is not None else "no_face",
        analyser="edge",
        analyser_version="1",
        milliseconds=0.0,
        faces=() if happy is None else (face(happy, confidence),),
    )
    return dataclasses.replace(frame, **changes)


def shown(decision_id: str, action_id: str, at_ms: int, **changes: Any) -> DecisionShown:
    """Return the impression of a decision."""
    event = DecisionShown(f"{decision_id}.shown", decision_id, "greeting", action_id, at_ms)
    return dataclasses.replace(event, **changes)


def rewarded(decision_id: str, number: int, value: float, at_ms: int, **changes: Any) -> Any:
    """Return an explicit reward."""
    event = RewardObserved(f"{decision_id}.reward.{number}", decision_id, value, at_ms)
    return dataclasses.replace(event, **changes)


def ended(decision_id: str, at_ms: int, posts: int = 0) -> VisitEnded:
    """Return the end of a visit that took so many post pictures."""
    names = tuple(f"{decision_id}.post.{i}" for i in range(1, posts + 1))
    return VisitEnded(
        f"{decision_id}.ended",
        decision_id,
        decision_id,
        "greeting",
        "kiosk-1",
        "left",
        at_ms,
        names,
    )


def decided(
    decision_id: str,
    at_ms: int,
    config: LoopConfigured | None = None,
    happy: float | None = 0.2,
    confidence: float = 0.9,
    **changes: Any,
) -> DecisionMade:
    """Return a decision as `decide` makes it of one face; changes replace fields of its choice."""
    config = config or loop(algorithm="uniform")
    frame = analyzed(decision_id, "pre", 0, min(at_ms, 253_402_300_799_999), happy, confidence)
    serving = make_ready(config, None) if happy is not None else None
    decision = decide(frame, at_ms, config, serving)
    return dataclasses.replace(decision, choice=dataclasses.replace(decision.choice, **changes))


def outcome(
    decision: DecisionMade, reward: float, at_ms: int = START_MS, **changes: Any
) -> OutcomeClosed:
    """Return a rewarded outcome of a decision."""
    closed = OutcomeClosed(
        choice=decision.choice,
        result="rewarded",
        result_reason="observed",
        source="explicit",
        reward_raw=reward,
        reward=reward,
        clipped=False,
        precision=1.0,
        closed_by="final_reward",
        closed_at_ms=at_ms,
        learnable=True,
        learnable_reason="rewarded",
    )
    return dataclasses.replace(closed, **changes)
