"""Logs whose truth is known, for whoever judges policies on them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import worlds
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from pipelines.decide import decide
from pipelines.ready import Serving
from policies.base import checksum_of
from policies.probabilities import mix
from policies.registry import prior
from schemas.decisions import DecisionMade, ShadowOffer
from schemas.loops import LoopConfigured, PolicyConfigured
from schemas.outcomes import OutcomeClosed

SMILE = {"a0": 0.3, "a1": 0.6, "a2": 0.4}
"""Chance of the reward 1 after each action; else the default, 0, comes."""
PERFECT = "perfect"
"""A shadow policy that knows the best action."""
STEP_MS = 1_000


def config(algorithm: str = "thompson", **changes: Any) -> LoopConfigured:
    """Return the loop, with a shadow policy beside."""
    policies = (PolicyConfigured("main", algorithm), PolicyConfigured(PERFECT, "fixed", "shadow"))
    return worlds.loop(**{"policies": policies, **changes})


def history(
    loop: LoopConfigured, count: int, seed: int = 1
) -> Iterator[tuple[DecisionMade, OutcomeClosed]]:
    """Yield decisions of a policy that learns as it goes, each with its outcome."""
    chance = random.Random(seed)  # noqa: S311 - visitors, not secrets
    policy = prior(loop)
    for number in range(count):
        at_ms = worlds.START_MS + number * STEP_MS
        now = Serving(policy, 0, number, checksum_of(policy), loop.floor_ppb, "main")
        frame = worlds.analyzed(f"d{number:05d}", "pre", 0, at_ms, chance.random())
        decision = decide(frame, at_ms, loop, now)
        decision = _with_shadow(decision, loop)
        smiles = chance.random() < SMILE[decision.choice.action_id]
        closed_ms = at_ms + (900 if smiles else 5_500)
        outcome = worlds.outcome(decision, float(smiles), closed_ms)
        if not smiles:
            outcome = dataclasses.replace(outcome, result="defaulted", source="default")
        policy = policy.learn(outcome)
        yield decision, outcome


def _with_shadow(decision: DecisionMade, loop: LoopConfigured) -> DecisionMade:
    choice = decision.choice
    eligible = [action.eligible for action in choice.actions]
    mixed = mix([0.0, 1.0, 0.0], eligible, 0, choice.control_share_ppb, choice.floor_ppb)
    shadow = ShadowOffer(PERFECT, 0, 0, mixed.probabilities_ppb)
    choice = dataclasses.replace(choice, shadows=(shadow,))
    return dataclasses.replace(decision, choice=choice)


def write(folder: Path, loop: LoopConfigured, count: int, seed: int = 1) -> EmbeddedLog:
    """Write a history into a log, each record when it happened: outcomes as they closed."""
    clock = SetClock(worlds.START_MS)
    log = EmbeddedLog(folder, clock)
    log.append_all([("loops", loop), ("outcomes", loop)])
    entries: list[tuple[int, int, str, object]] = []
    for number, (decision, outcome) in enumerate(history(loop, count, seed)):
        entries.append((decision.choice.decided_at_ms, number, "decisions", decision))
        entries.append((outcome.closed_at_ms, number, "outcomes", outcome))
    for at_ms, _, stream, value in sorted(entries, key=lambda entry: entry[:2]):
        clock.set(at_ms)
        log.append(stream, value)
    return log
