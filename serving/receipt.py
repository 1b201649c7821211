"""One decision's whole story, read back from the log: nothing is kept for it beside the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from connectors.logs import Row
from engines.one_key import RawRecord
from pipelines.rewards import reason
from pipelines.windows import Ended, Member, Open, Shown, event_time_ms, member_of
from schemas.codec import decode
from schemas.decisions import DecisionMade, DecisionShown, RewardObserved, VisitEnded
from schemas.errors import PhoError, RecordError
from schemas.frames import FrameAnalyzed
from schemas.loops import LoopConfigured
from schemas.operations import SideRecord
from schemas.outcomes import OutcomeClosed
from schemas.streams import LATE, STREAMS, UNMATCHED
from serving.receipt_learning import Learnt, Weighed, learnt
from serving.receipt_lookup import Lookup, Scanned
from serving.replay.verdicts import History

SOURCES = ("analyses", "decisions", "impressions", "rewards", "visits")
"""The streams whose records of a decision have its id as their key."""
_PPB = 1e9
_WHY_NOT = {
    "no_face": "no face in it",
    "failed": "it could not be analysed",
    "expired": "its picture was too old to be analysed",
    "refused": "no notice was shown",
    "poor_picture": "the face cannot be read: too poor a picture",
    "turned_away": "the face is turned away",
    "other_face": "another face than the one that was greeted",
    "unsure_face": "the detector is not sure of the face",
    "too_early": "taken too early after the greeting",
    "after_visit": "taken after the visit ended",
    "unsure_before": "the face before the greeting cannot be used",
}


class NoSuchDecision(PhoError):
    """The log has no decision of that id, or none yet."""


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


def read_receipt(history: History, decision_id: str) -> Receipt:
    """Read one decision's story.

    Parameters
    ----------
    history : History
        The log.
    decision_id : str
        The decision; where a visit has a name of its own, the visit's will do.

    Raises
    ------
    NoSuchDecision
        When the log has none of that id, or none yet.
    LogUnavailable
        When the log cannot be read.
    """
    return receipt_of(Scanned(history), decision_id)


def receipt_of(lookup: Lookup, decision_id: str) -> Receipt:
    """Read one decision's story by way of what finds its records; otherwise as `read_receipt`."""
    rows = list(lookup.rows(*SOURCES, key=decision_id))
    records = [record for row in rows if (record := _record(row)) is not None]
    made = next((r for r in records if isinstance(r.value, DecisionMade)), None)
    if made is None:
        other = _decision_of_visit(lookup, decision_id)
        if other is not None:
            return receipt_of(lookup, other)
        raise _unknown(lookup, decision_id, records)
    decision: DecisionMade = made.value
    choice = decision.choice
    outcome = _outcome(lookup, choice.loop_id, decision_id)
    shown = next((r for r in records if isinstance(r.value, DecisionShown)), None)
    ended = next((r for r in records if isinstance(r.value, VisitEnded)), None)
    aside = tuple(_aside(lookup, decision_id))
    config = _configuration(lookup, choice.loop_id, choice.config_hash)
    window = Open(
        made,
        Shown(shown.value.event_id, shown.value.action_id, event_time_ms(shown), shown.log_time_ms)
        if shown
        else None,
        Ended(ended.value.event_id, event_time_ms(ended), ended.value.post_frame_ids)
        if ended
        else None,
    )
    weighed, learned = learnt(lookup, decision, config, outcome)
    return Receipt(
        log=lookup.name,
        decision=decision,
        log_time_ms=made.log_time_ms,
        config=config,
        frame=_frame(records, decision),
        shown=shown.value if shown else None,
        ended=ended.value if ended else None,
        reactions=_reactions(records, window, outcome, aside),
        outcome=outcome,
        weighed=weighed,
        learnt=learned,
        aside=aside,
    )


def _record(row: Row) -> RawRecord | None:
    record = RawRecord(row.stream, row.key, row.log_time_ms, row.value, row.position, row.partition)
    try:
        value = record.value
    except RecordError:
        return None
    return record if isinstance(value, STREAMS[row.stream].records) else None


def _decision_of_visit(lookup: Lookup, visit_id: str) -> str | None:
    for row in lookup.decisions_with(visit_id):
        record = _record(row)
        if record is not None and record.value.choice.visit_id == visit_id:
            found: str = record.value.choice.decision_id
            return found if found != visit_id else None
    return None


def _unknown(lookup: Lookup, decision_id: str, records: list[RawRecord]) -> NoSuchDecision:
    answers = [r.value for r in records if isinstance(r.value, FrameAnalyzed)]
    if answers:
        statuses = ", ".join(sorted({answer.status for answer in answers}))
        problem = f"visit {decision_id} has no decision yet; its frames were answered: {statuses}"
        return NoSuchDecision(problem, "An answer `ok` decides; expired and refused ones never do")
    problem = f"{lookup.name} has no decision {decision_id}"
    cure = "List some with: pho topics decisions --last 5; what was erased or expired has none"
    return NoSuchDecision(problem, cure)


def _outcome(lookup: Lookup, loop_id: str, decision_id: str) -> OutcomeClosed | None:
    for row in lookup.outcomes_of(loop_id, decision_id):
        record = _record(row)
        value = record.value if record is not None else None
        if isinstance(value, OutcomeClosed) and value.choice.decision_id == decision_id:
            return value
    return None


def _configuration(lookup: Lookup, loop_id: str, config_hash: str) -> LoopConfigured | None:
    for row in lookup.rows("loops", key=f"{loop_id}/{config_hash}"):
        record = _record(row)
        if record is not None:
            found: LoopConfigured = record.value
            return found
    return None


def _aside(lookup: Lookup, decision_id: str) -> Iterator[SideRecord]:
    for row in lookup.rows(LATE, UNMATCHED, "dead-letters", key=decision_id):
        try:
            value = decode(row.value)
        except RecordError:
            continue
        if isinstance(value, SideRecord):
            yield value


def _frame(records: list[RawRecord], decision: DecisionMade) -> FrameAnalyzed | None:
    for record in records:
        value = record.value
        if isinstance(value, FrameAnalyzed) and value.frame_id == decision.cause_id:
            return value
    return None


def _reactions(
    records: list[RawRecord],
    window: Open,
    outcome: OutcomeClosed | None,
    aside: tuple[SideRecord, ...],
) -> tuple[Reaction, ...]:
    """Say of each reaction whether it counts, and why not."""
    decision: DecisionMade = window.decision.value
    gone = {(side.stream, side.partition, side.offset): side for side in aside}
    found: dict[tuple[str, str], Reaction] = {}
    for record in records:
        value = record.value
        if not isinstance(value, FrameAnalyzed | RewardObserved):
            continue
        if isinstance(value, FrameAnalyzed) and value.phase != "post":
            continue
        member = member_of(record, decision.box_before)
        side = gone.get((record.stream, record.partition, record.offset))
        counted = outcome is not None and member.id in outcome.member_ids and side is None
        why = "" if counted else _why(window, member, outcome, side)
        reaction = Reaction(
            member.id, member.kind, member.at_ms, member.value, member.confidence, counted, why
        )
        found.setdefault((member.kind, member.id), reaction)  # a repeat changes nothing
    return tuple(sorted(found.values(), key=lambda reaction: (reaction.at_ms, reaction.id)))


def _why(
    window: Open, member: Member, outcome: OutcomeClosed | None, side: SideRecord | None
) -> str:
    if side is not None:
        return f"{side.reason}: {side.error}"
    flaw = reason(window, member)
    if flaw is not None:
        return _WHY_NOT.get(flaw, flaw)
    if outcome is None:
        return "the decision is still open"
    if outcome.source == "explicit":
        return "an explicit reward goes before it"
    return f"the decision was closed as {outcome.result} ({outcome.result_reason})"
