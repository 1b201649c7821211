"""One decision's whole story, as the log tells it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.decisions import DecisionMade, DecisionShown, VisitEnded
from schemas.frames import FrameAnalyzed
from schemas.loops import LoopConfigured
from schemas.operations import SideRecord
from schemas.outcomes import OutcomeClosed
from serving.receipt_learning import Learnt, Weighed

_PPB = 1e9


@dataclass(frozen=True, slots=True)
class Reaction:
    """One reaction to a decision."""

    id: str
    """Id of the frame or the reward."""
    kind: str
    """``post``: the answer to a picture; ``reward``: an explicit reward."""
    at_ms: int
    """Event time, ms."""
    value: float
    """Happiness, 0..1, or the reward given."""
    confidence: float
    """The detector's confidence in the face, 0..1; 1 for a reward."""
    counted: bool
    """Whether the reward was made of it."""
    why: str
    """Why not; empty: it counts."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the log says of one decision."""

    log: str
    """Where the log is."""
    decision: DecisionMade
    """The decision; the first in the log holds."""
    log_time_ms: int
    """Its log time, ms."""
    config: LoopConfigured | None
    """The configuration in force; None: `loops` has it no more."""
    frame: FrameAnalyzed | None
    """The answered frame that caused it."""
    shown: DecisionShown | None
    """The first impression."""
    ended: VisitEnded | None
    """The end of the visit."""
    reactions: tuple[Reaction, ...]
    """What was seen of it afterwards, in the order of event time."""
    outcome: OutcomeClosed | None
    """How it closed; None: it is still open."""
    weighed: Weighed
    """Why this action."""
    learnt: tuple[Learnt, ...]
    """What each policy learned from it."""
    aside: tuple[SideRecord, ...] = field(default=())
    """Records of it that left the main way."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON; probabilities are shares of 1, times ms since 1970 UTC."""
        choice, frame = self.decision.choice, self.frame
        shown, ended = self.shown, self.ended
        return {
            "decision_id": choice.decision_id,
            "loop_id": choice.loop_id,
            "state": "closed" if self.outcome else "open",
            "known": {
                "features": self.features,
                "happiness_before": choice.happiness_before,
                "confidence_before": choice.confidence_before,
                "frame_id": self.decision.cause_id,
                "captured_at_ms": frame.captured_at_ms if frame else None,
            },
            "offered": [
                {
                    "action": action.id,
                    "eligible": action.eligible,
                    "probability": action.probability_ppb / _PPB,
                    "policy_probability": action.policy_probability_ppb / _PPB,
                }
                for action in choice.actions
            ],
            "chosen": self._chosen(),
            "why": self.weighed.document(),
            "shadows": [
                {
                    "policy": shadow.policy_id,
                    "epoch": shadow.epoch,
                    "version": shadow.version,
                    "probability": shadow.probabilities_ppb[self._place] / _PPB,
                }
                for shadow in choice.shadows
            ],
            "shown": (
                {"action": shown.action_id, "at_ms": shown.shown_at_ms, "fallback": shown.fallback}
                if shown
                else None
            ),
            "visit_ended": (
                {"at_ms": ended.ended_at_ms, "reason": ended.reason} if ended else None
            ),
            "reactions": [asdict(reaction) for reaction in self.reactions],
            "reward": self._reward(),
            "learned": [each.document() for each in self.learnt],
            "put_aside": [
                {"stream": side.stream, "reason": side.reason, "error": side.error}
                for side in self.aside
            ],
            "log": self.log,
        }

    @property
    def features(self) -> dict[str, float]:
        """What was known, by name; a sparse context by the places of its values."""
        features = self.decision.choice.features
        if features.indices:
            pairs = zip(map(str, features.indices), features.values, strict=True)
            return dict(pairs)
        names = self.config.feature_names if self.config else ()
        if len(names) != len(features.dense):
            names = tuple(str(place) for place in range(len(features.dense)))
        return dict(zip(names, features.dense, strict=True))

    @property
    def segment(self) -> tuple[float, float]:
        """The stretch of 0..1 the draw fell into: the control share, or the action's own."""
        choice = self.decision.choice
        if choice.control:
            return 0.0, choice.control_share_ppb / _PPB
        low = choice.control_share_ppb
        for action in choice.actions:
            own = action.probability_ppb
            own -= choice.control_share_ppb * (action.id == choice.baseline_id)
            if action.id == choice.action_id:
                return low / _PPB, (low + own) / _PPB
            low += own
        return 0.0, 1.0

    @property
    def _place(self) -> int:
        choice = self.decision.choice
        return [action.id for action in choice.actions].index(choice.action_id)

    def _chosen(self) -> dict[str, Any]:
        choice = self.decision.choice
        return {
            "action": choice.action_id,
            "text": self.decision.presentation.text,
            "language": self.decision.presentation.language,
            "policy": choice.policy_id,
            "algorithm": self.weighed.algorithm,
            "epoch": choice.epoch,
            "version": choice.version,
            "host": choice.host,
            "mode": choice.mode,
            "support": choice.support,
            "control": choice.control,
            "control_share": choice.control_share_ppb / _PPB,
            "floor": choice.floor_ppb / _PPB,
            "baseline": choice.baseline_id,
            "draw": choice.draw_ppb / _PPB,
            "fell_into": list(self.segment),
            "propensity": choice.propensity_ppb / _PPB,
            "decided_at_ms": choice.decided_at_ms,
        }

    def _reward(self) -> dict[str, Any] | None:
        outcome, rules = self.outcome, self.decision.rules
        if outcome is None:
            return None
        return {
            "reward": outcome.reward,
            "raw": outcome.reward_raw,
            "clipped": outcome.clipped,
            "precision": outcome.precision,
            "source": outcome.source,
            "result": outcome.result,
            "result_reason": outcome.result_reason,
            "closed_by": outcome.closed_by,
            "closed_at_ms": outcome.closed_at_ms,
            "happiness_after": outcome.happiness_after,
            "confidence_after": outcome.confidence_after,
            "learnable": outcome.learnable,
            "learnable_reason": outcome.learnable_reason,
            "rule": asdict(rules),
        }
