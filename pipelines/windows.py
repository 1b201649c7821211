"""What the join remembers of one decision while its window is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipelines.operators import Record
from pipelines.same_face import Flaw, flaw_of
from schemas.decisions import DecisionMade, DecisionShown, RewardObserved, RewardRules, VisitEnded
from schemas.frames import Box, FrameAnalyzed, nearest

Kind = Literal["post", "reward"]
Reason = Flaw | Literal["unsure_face", "too_early", "after_visit", "unsure_before"]
"""Why a reaction does not count."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The first impression of a decision."""

    event_id: str
    """Its id."""
    action_id: str
    """The action really shown."""
    at_ms: int
    """Event time, at most its log time, ms."""
    log_time_ms: int
    """Log time, ms."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of the visit."""

    event_id: str
    """Its id."""
    at_ms: int
    """Event time, at most its log time, ms."""
    post_frame_ids: tuple[str, ...]
    """The frames whose answers are still to be waited for."""


@dataclass(frozen=True, slots=True)
class Member:
    """A reaction that came in time: the answer to a post frame, or an explicit reward."""

    id: str
    """Id of the frame or the reward."""
    kind: Kind
    """Which of the two."""
    at_ms: int
    """Event time, at most its log time, ms."""
    value: float
    """Happiness of the nearest face, 0..1, or the reward given."""
    confidence: float
    """The detector's confidence in that face, 0..1; 0 where there was none; 1 for a reward."""
    final: bool = False
    """True: a reward after which nothing more comes."""
    flaw: Flaw = ""
    """What is wrong with the picture by itself; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Events that came before their decision."""

    orphans: tuple[Record, ...]
    """The events, in the order of the log."""


@dataclass(frozen=True, slots=True)
class Open:
    """A decision whose window is open, or not yet opened.

    The rules are the decision's own, and it is read only when an event comes for it: an engine
    that keeps a million of these keeps their places in the log, some 20 bytes each.
    """

    decision: Record
    """The decision."""
    shown: Shown | None = None
    """Its first impression."""
    ended: Ended | None = None
    """The end of its visit."""
    members: tuple[Member, ...] = ()
    """The reactions so far."""
    held: tuple[Record, ...] = ()
    """Reactions that came before the impression, to be judged when it comes."""

    def now(
        self,
        shown: Shown | None,
        ended: Ended | None,
        members: tuple[Member, ...],
        held: tuple[Record, ...],
    ) -> Open:
        """Return the window with other contents; `dataclasses.replace` costs ten times as much."""
        return Open(self.decision, shown, ended, members, held)

    @property
    def rules(self) -> RewardRules:
        """The rules in force for this decision."""
        decision: DecisionMade = self.decision.value
        return decision.rules

    @property
    def decided_at_ms(self) -> int:
        """When it was decided, ms."""
        decision: DecisionMade = self.decision.value
        return decision.choice.decided_at_ms

    @property
    def opened_at_ms(self) -> int | None:
        """Event time at which the window opened; None: not yet."""
        if self.rules.activation != "at_impression":
            return self.decided_at_ms
        return self.shown.at_ms if self.shown else None

    @property
    def deadline_ms(self) -> int:
        """Log time after which nothing counts."""
        rules = self.rules
        opened_by_ms = self.decision.log_time_ms
        if self.shown and rules.activation == "at_impression":
            opened_by_ms = self.shown.log_time_ms
        return opened_by_ms + rules.reward_window_ms + rules.grace_ms

    def contains(self, event_time_ms: int) -> bool:
        """Whether an event time lies inside the window, `grace` early included."""
        rules, opened_ms = self.rules, self.opened_at_ms
        if opened_ms is None:
            opened_ms = self.decided_at_ms
        return opened_ms - rules.grace_ms <= event_time_ms <= opened_ms + rules.reward_window_ms

    def usable(self, member: Member) -> bool:
        """Whether a reaction counts: one sure and readable face, in time, of the same person."""
        return self.flaw(member) is None

    def flaw(self, member: Member) -> Reason | None:
        """Return why a reaction does not count; None: it does."""
        if member.kind == "reward":
            return None
        if member.flaw:
            return member.flaw
        rules = self.rules
        if member.confidence <= 0.0:
            return "no_face"
        if member.confidence < rules.min_confidence:
            return "unsure_face"
        shown_ms = self.shown.at_ms if self.shown else self.decided_at_ms
        if member.at_ms < shown_ms + rules.reaction_delay_ms:
            return "too_early"
        if self.ended is not None and member.at_ms > self.ended.at_ms:
            return "after_visit"
        return None


@dataclass(frozen=True, slots=True)
class Closed:
    """The tombstone: the decision has its outcome."""

    until_ms: int
    """Log time until which it is remembered, ms."""


State = Waiting | Open | Closed


def event_time_ms(record: Record) -> int:
    """Return an event's own time; a time after its log time counts as the log time."""
    match record.value:
        case FrameAnalyzed(captured_at_ms=at_ms):
            pass
        case DecisionShown(shown_at_ms=at_ms):
            pass
        case RewardObserved(observed_at_ms=at_ms):
            pass
        case VisitEnded(ended_at_ms=at_ms):
            pass
        case other:
            problem = f"{type(other).__name__} is no event of a decision"
            raise TypeError(problem)
    return min(at_ms, record.log_time_ms)


def member_of(record: Record, box_before: Box | None = None) -> Member:
    """Reduce a reaction to what the reward needs of it.

    Parameters
    ----------
    record : Record
        The answer to a post frame, or an explicit reward.
    box_before : Box or None
        Where the nearest face was in the deciding frame; None: not known.
    """
    at_ms = event_time_ms(record)
    if isinstance(record.value, RewardObserved):
        reward = record.value
        return Member(reward.reward_id, "reward", at_ms, reward.value, 1.0, reward.final)
    answer: FrameAnalyzed = record.value
    flaw = flaw_of(answer, box_before)
    face = nearest(answer.faces) if answer.status == "ok" else None
    if face is None:
        return Member(answer.frame_id, "post", at_ms, 0.0, 0.0, flaw=flaw)
    return Member(answer.frame_id, "post", at_ms, face.happiness, face.confidence, flaw=flaw)
