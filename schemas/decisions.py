"""Decisions: one choice with its probabilities, and what is seen of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.checks import (
    PPB,
    check_finite,
    check_id,
    check_optional_id,
    check_range,
    check_time,
)
from schemas.errors import InvalidRecord
from schemas.frames import Box

Host = Literal["unknown", "stream", "gateway", "client"]
Mode = Literal["unknown", "online", "apprentice", "logging", "fallback"]
Support = Literal["unknown", "full", "degenerate"]
Activation = Literal["unknown", "at_decision", "at_impression"]
Aggregation = Literal["unknown", "earliest", "latest", "sum", "mean", "max", "min"]
Missing = Literal["unknown", "default", "drop"]
EndReason = Literal["unknown", "left", "timeout", "camera_lost", "stopped"]


@dataclass(frozen=True, slots=True)
class RewardRules:
    """How the reaction to one decision becomes its reward: the rules in force, carried along."""

    activation: Activation
    """When the reward window opens: at the decision, or when it was shown."""
    reward_window_ms: int
    """How long after its opening a reaction still counts, ms."""
    grace_ms: int
    """How much later (and, in event time, earlier) the log may bring it, ms."""
    aggregation: Aggregation
    """How several explicit rewards become one."""
    reward_low: float
    """Smallest reward; below is clipped, and marked."""
    reward_high: float
    """Largest reward; above is clipped, and marked."""
    default_reward: float
    """What a decision without any usable reaction earns."""
    missing: Missing
    """Nothing usable came: take the default, or drop the decision."""
    reaction_delay_ms: int
    """A post frame counts only if captured at least this long after the showing, ms."""
    min_confidence: float
    """A face below this confidence is not usable, 0..1."""
    closing_reactions: int
    """Close after this many usable reactions; 0: never by count."""
    dedup_horizon_ms: int
    """How long an id is remembered after its decision, ms; a decision older than that is late."""

    def __post_init__(self) -> None:
        check_range("reward_window_ms", self.reward_window_ms, 1, 7 * 86_400_000)
        check_range("grace_ms", self.grace_ms, 0, 3_600_000)
        check_range("reaction_delay_ms", self.reaction_delay_ms, 0, self.reward_window_ms)
        check_range("min_confidence", self.min_confidence, 0.0, 1.0)
        check_range("closing_reactions", self.closing_reactions, 0, 1_000)
        check_range("reward_high", self.reward_high, self.reward_low, 1e12)
        check_range("default_reward", self.default_reward, self.reward_low, self.reward_high)
        if self.dedup_horizon_ms < self.longest_life_ms:
            problem = f"dedup_horizon_ms is {self.dedup_horizon_ms}"
            cure = f"It must be at least the longest life of a window, {self.longest_life_ms}"
            raise InvalidRecord(problem, cure)

    @property
    def longest_life_ms(self) -> int:
        """Longest time a decision can stay open, in log time, ms."""
        windows = 2 if self.activation == "at_impression" else 1
        return windows * (self.reward_window_ms + self.grace_ms)


@dataclass(frozen=True, slots=True)
class Features:
    """A context as numbers: dense in the order of the loop's feature names, or sparse."""

    dense: tuple[float, ...] = ()
    """Every value, in the order of the loop's feature names."""
    indices: tuple[int, ...] = ()
    """Sparse: positions of the values, rising."""
    values: tuple[float, ...] = ()
    """Sparse: the values at `indices`."""


@dataclass(frozen=True, slots=True)
class OfferedAction:
    """One action as it was offered, with the probability it had."""

    id: str
    """The action's id."""
    eligible: bool
    """False: excluded for this decision; it keeps its place and has probability 0."""
    probability_ppb: int
    """Probability under the whole procedure (control, floor, policy), in 1e-9."""
    policy_probability_ppb: int
    """Probability the policy alone gave it, in 1e-9."""
    features: Features | None = None
    """Features of the action itself, where it has some."""


@dataclass(frozen=True, slots=True)
class VariantOffer:
    """One arm of an A/B split, with the probabilities it would have used."""

    name: str
    """Name of the variant."""
    policy_id: str
    """The policy behind it."""
    epoch: int
    """Epoch of that policy."""
    version: int
    """Version of that policy."""
    share_ppb: int
    """Share of decisions that draw this variant, in 1e-9."""
    probabilities_ppb: tuple[int, ...]
    """Its probability of each action, in the order offered, in 1e-9."""


@dataclass(frozen=True, slots=True)
class ShadowOffer:
    """What a policy in shadow would have done; it decides nothing."""

    policy_id: str
    """The shadow policy."""
    epoch: int
    """Its epoch."""
    version: int
    """Its version."""
    probabilities_ppb: tuple[int, ...]
    """Its probability of each action, in the order offered, in 1e-9."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Who chose what for whom, with which probability; decision and outcome share it."""

    decision_id: str
    """Id of the decision; in the greeting loop the visit's id."""
    loop_id: str
    """The loop that decided."""
    config_hash: str
    """The configuration in force."""
    host: Host
    """Where the decision was computed."""
    decided_at_ms: int
    """Log time of the record that caused it (gateway, client: their corrected clock), ms."""
    features_hash: str
    """Hash of the names of the features, in their order."""
    features: Features
    """The context the policy saw."""
    actions: tuple[OfferedAction, ...]
    """Every action in the order offered; their `probability_ppb` add up to 1e9."""
    baseline_id: str
    """The action the control share gets."""
    action_id: str
    """The action chosen."""
    propensity_ppb: int
    """Probability with which it was chosen, in 1e-9; above 0."""
    draw_ppb: int
    """The draw that chose it, 0 to 1e9 - 1; a hash of loop seed, loop and decision id."""
    control: bool
    """True: the draw fell into the control share."""
    control_share_ppb: int
    """The control share in force, in 1e-9."""
    floor_ppb: int
    """The exploration floor in force, in 1e-9."""
    support: Support
    """``full``: every eligible action had a chance; ``degenerate``: only one."""
    mode: Mode
    """Who was in charge."""
    policy_id: str
    """The policy that chose."""
    epoch: int
    """Its epoch."""
    version: int
    """Its version in that epoch."""
    policy_checksum: str
    """Checksum of its bytes."""
    visit_id: str | None = None
    """The visit, in the greeting loop."""
    kiosk_id: str | None = None
    """The kiosk that shows it, in the greeting loop."""
    event_group_id: str | None = None
    """The rank call of several slots this belongs to."""
    slot_id: str | None = None
    """The slot in that call."""
    subject_hash: str | None = None
    """Keyed hash of a person's id."""
    request_id: str | None = None
    """The caller's id of its request; a repeat of it is the same request."""
    variant: str | None = None
    """The variant drawn, where there is a split."""
    variants: tuple[VariantOffer, ...] = ()
    """Every variant of the split."""
    shadows: tuple[ShadowOffer, ...] = ()
    """Every policy in shadow."""
    happiness_before: float | None = None
    """Happiness of the nearest face in the deciding frame, 0..1."""
    confidence_before: float | None = None
    """The detector's confidence of that face, 0..1."""

    def __post_init__(self) -> None:
        check_id("decision_id", self.decision_id)
        check_id("loop_id", self.loop_id)
        check_optional_id("visit_id", self.visit_id)
        check_optional_id("kiosk_id", self.kiosk_id)
        check_time("decided_at_ms", self.decided_at_ms)
        check_range("draw_ppb", self.draw_ppb, 0, PPB - 1)
        check_range("control_share_ppb", self.control_share_ppb, 0, PPB)
        check_range("floor_ppb", self.floor_ppb, 0, PPB)
        check_range("propensity_ppb", self.propensity_ppb, 1, PPB)
        total_ppb = 0
        chosen_ppb = -1
        for action in self.actions:
            ppb = action.probability_ppb
            total_ppb += ppb
            if ppb < 0 or (ppb and not action.eligible):
                problem = f"action {action.id!r} has probability {ppb} of 1e9"
                raise InvalidRecord(problem, "At least 0, and exactly 0 when it is excluded")
            if action.id == self.action_id:
                chosen_ppb = ppb
        if total_ppb != PPB or chosen_ppb != self.propensity_ppb:
            problem = (
                f"the probabilities of decision {self.decision_id!r} sum to {total_ppb}, and "
                f"action {self.action_id!r} has {chosen_ppb}, not {self.propensity_ppb}"
            )
            raise InvalidRecord(problem, "They must sum to 1e9 and name the chosen action once")


@dataclass(frozen=True, slots=True)
class Presentation:
    """What the visitor gets to see and hear."""

    text: str
    """The words."""
    language: str
    """Their language, a BCP 47 tag."""
    voice: str = ""
    """Wish for a voice, empty for the kiosk's own."""
    mood: str = ""
    """Mood of the avatar: ``warm``, ``curious``, ``formal``."""


@dataclass(frozen=True, slots=True)
class DecisionMade:
    """One action chosen for one visit: the only trace of a decision that counts."""

    choice: Choice
    """Who chose what for whom, with which probability."""
    presentation: Presentation
    """What to show."""
    rules: RewardRules
    """The rules in force for its reward."""
    cause_id: str | None = None
    """The record that caused it; in the greeting loop the deciding frame."""
    cause_log_time_ms: int | None = None
    """Log time of that record, ms."""
    handed_in_at_ms: int | None = None
    """When a client that decided offline handed it in, ms."""
    box_before: Box | None = None
    """Where the nearest face was in the deciding frame."""


@dataclass(frozen=True, slots=True)
class GreetingIssued:
    """All a kiosk needs to greet, and nothing about the visitor."""

    decision_id: str
    """The decision behind it; goes back in DecisionShown."""
    visit_id: str
    """The visit to greet."""
    loop_id: str
    """The loop that decided."""
    kiosk_id: str
    """The kiosk that shows it."""
    action_id: str
    """The greeting's id."""
    text: str
    """The words."""
    language: str
    """Their language, a BCP 47 tag."""
    voice: str
    """Wish for a voice, empty for the kiosk's own."""
    mood: str
    """Mood of the avatar."""
    decided_at_ms: int
    """When it was decided, log time, ms."""
    expires_at_ms: int
    """Not to be shown after this, ms."""

    def __post_init__(self) -> None:
        check_id("decision_id", self.decision_id)
        check_id("kiosk_id", self.kiosk_id)


@dataclass(frozen=True, slots=True)
class DecisionShown:
    """The visitor was shown an action; it opens the reward window of a deferred loop."""

    event_id: str
    """Id of this event; a repeat of it is the same event."""
    decision_id: str
    """The decision shown."""
    loop_id: str
    """The loop that decided."""
    action_id: str
    """The action really shown; another than the chosen one drops the decision."""
    shown_at_ms: int
    """Event time of the showing, ms since 1970 UTC."""
    fallback: bool = False
    """True: the kiosk showed its own baseline because nothing came in time."""
    kiosk_id: str | None = None
    """The kiosk that showed it."""
    slot_id: str | None = None
    """The slot, in a call of several."""

    def __post_init__(self) -> None:
        check_id("event_id", self.event_id)
        check_id("decision_id", self.decision_id)
        check_id("action_id", self.action_id)
        check_time("shown_at_ms", self.shown_at_ms)


@dataclass(frozen=True, slots=True)
class RewardObserved:
    """An explicit reward: somebody says what the decision earned."""

    reward_id: str
    """Id of this reward; a repeat of it is the same reward."""
    decision_id: str
    """The decision rewarded."""
    value: float
    """What it earned; clipped to the loop's range at the close."""
    observed_at_ms: int
    """Event time, ms since 1970 UTC."""
    final: bool = False
    """True: close now, nothing more will come."""
    origin: str = ""
    """Who says so."""
    loop_id: str | None = None
    """The loop, where the caller knows it."""
    slot_id: str | None = None
    """The slot, in a call of several."""

    def __post_init__(self) -> None:
        check_id("reward_id", self.reward_id)
        check_id("decision_id", self.decision_id)
        check_finite("value", self.value)
        check_time("observed_at_ms", self.observed_at_ms)


@dataclass(frozen=True, slots=True)
class VisitEnded:
    """The visitor left: what was captured later does not belong to the visit."""

    event_id: str
    """Id of this event; a repeat of it is the same event."""
    decision_id: str
    """The decision of the visit."""
    visit_id: str
    """The visit that ended."""
    loop_id: str
    """The loop that decided."""
    kiosk_id: str
    """The kiosk."""
    reason: EndReason
    """Why the tracker ended it."""
    ended_at_ms: int
    """Event time of the end, ms since 1970 UTC."""
    post_frame_ids: tuple[str, ...] = ()
    """The post frames of the visit: when each has its answer, nothing more can come."""

    def __post_init__(self) -> None:
        check_id("event_id", self.event_id)
        check_id("decision_id", self.decision_id)
        check_time("ended_at_ms", self.ended_at_ms)
