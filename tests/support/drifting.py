"""A loop with simulated visitors whose taste may flip, played without a log: fast, and by seed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from itertools import count

from connectors.logs import Row
from engines.rebuilding import Learned, Relearning
from pipelines.decide import decide
from pipelines.ready import Serving
from producers.simulated import SimulatedVisitor, SimulatedWorld
from schemas.codec import encode
from schemas.decisions import DecisionMade
from schemas.frames import Box, Face, FrameAnalyzed, Score
from schemas.loops import LoopConfigured, Parameter, PolicyConfigured, with_hash
from schemas.operations import AlarmRaised
from schemas.outcomes import OutcomeClosed, PolicyDirected
from serving.loop_watch import Found, LoopWatch, Watching
from serving.settings import load

START_MS = 1_767_600_000_000
_HOUR_OF = {"morning": 8, "afternoon": 14, "evening": 19}
_RECENT = 500


def drifting_loop(discount: float | None = None) -> LoopConfigured:
    """Return the shipped loop, its policy with a discount where one is given."""
    config = load(None, {}, {}).loop("greeting")
    if discount is None:
        return config
    policy = PolicyConfigured("main", "thompson", "serving", (Parameter("discount", discount),))
    return with_hash(replace(config, config_hash="", policies=(policy,)))


@dataclass
class Played:
    """What was seen."""

    alarms: list[tuple[int, AlarmRaised]] = field(default_factory=list)
    """Visit and alarm."""
    directives: list[tuple[int, PolicyDirected]] = field(default_factory=list)
    """Visit and directive."""
    regret: list[float] = field(default_factory=list)
    """For each visit, what the best greeting is truly worth more than the whole procedure."""

    def followed_after(self, drift_at: int, closed: float = 0.9) -> int | None:
        """Return the visits after the flip until the loss it brought is made good.

        The mean regret of `_RECENT` visits must have come back by `closed` of the way from what it
        was right after the flip to what it was in the 1,000 visits before; None: it never does.
        """
        before = sum(self.regret[drift_at - 1_000 : drift_at]) / 1_000
        struck = sum(self.regret[drift_at : drift_at + 100]) / 100
        enough = struck + closed * (before - struck)
        recent: deque[float] = deque(maxlen=_RECENT)
        for visit in range(drift_at, len(self.regret)):
            recent.append(self.regret[visit])
            if len(recent) == _RECENT and sum(recent) / _RECENT <= enough:
                return visit - drift_at + 1
        return None


def play(
    seed: int,
    visits: int,
    drift_at: int | None = None,
    how: Watching | None = None,
    config: LoopConfigured | None = None,
) -> Played:
    """Play visitors one after the other, each decided by what the ones before taught."""
    config = config or drifting_loop()
    config = with_hash(replace(config, seed=seed, config_hash=""))
    world = SimulatedWorld(seed, drift_at)
    relearning, watch, played = Relearning(), LoopWatch(config.loop_id, how), Played()
    positions = count(1)

    def append(value: object) -> tuple[Learned, list[Found]]:
        position = next(positions)
        at_ms = START_MS + position * 1_000
        step = relearning.take(Row(position, "outcomes", config.loop_id, at_ms, encode(value)))
        assert step is not None
        return step, watch.take(step)

    step, _ = append(config)
    for visit, visitor in enumerate(world.visitors(visits)):
        assert step.state is not None
        learner = step.state.learners[0]
        floor_ppb, policy_id = learner.floor_ppb, learner.policy_id
        serving = Serving(learner.policy, learner.epoch, learner.version, "", floor_ppb, policy_id)
        made = decide(_frame(visitor), START_MS + visit * 1_000, config, serving)
        _look(played, config, visitor, made)
        step, found = append(_outcome(visitor, made))
        for each in found:
            if isinstance(each, AlarmRaised):
                played.alarms.append((visit, each))
            elif isinstance(each, PolicyDirected):
                played.directives.append((visit, each))
                step, _ = append(each)
    return played


def _look(
    played: Played, config: LoopConfigured, visitor: SimulatedVisitor, made: DecisionMade
) -> None:
    best = max(visitor.expected(name) for name in config.action_ids)
    offers = made.choice.actions
    worth = sum(offer.probability_ppb * visitor.expected(offer.id) for offer in offers) / 1e9
    played.regret.append(best - worth)


def _frame(visitor: SimulatedVisitor) -> FrameAnalyzed:
    name = f"v{visitor.index}"
    at_ms = START_MS + visitor.day * 86_400_000 - START_MS % 86_400_000
    at_ms += _HOUR_OF[visitor.part] * 3_600_000
    face = Face(Box(0.3, 0.2, 0.3, 0.3), 0.9, (Score("happy", visitor.before),), smile=None)
    return FrameAnalyzed(
        frame_id=f"{name}.pre", decision_id=name, visit_id=name, loop_id="greeting",
        kiosk_id="kiosk-1", phase="pre", sequence=0, captured_at_ms=at_ms, width=640, height=360,
        notice="page", status="ok", analyser="edge", analyser_version="1", milliseconds=0.0,
        faces=(face,),
    )  # fmt: skip


def _outcome(visitor: SimulatedVisitor, made: DecisionMade) -> OutcomeClosed:
    reward = visitor.after(made.choice.action_id) - visitor.before
    return OutcomeClosed(
        choice=made.choice, result="rewarded", result_reason="observed", source="reaction",
        reward_raw=reward, reward=reward, clipped=False, precision=0.9, closed_by="visit_end",
        closed_at_ms=made.choice.decided_at_ms, learnable=True, learnable_reason="rewarded",
    )  # fmt: skip
