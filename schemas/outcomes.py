"""Outcomes and policies: what a decision earned, and what was learned from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.checks import PPB, check_finite, check_id, check_range, check_time
from schemas.decisions import Choice
from schemas.errors import InvalidRecord
from schemas.loops import Role

Source = Literal["unknown", "reaction", "explicit", "default"]
Result = Literal["unknown", "rewarded", "defaulted", "dropped", "not_activated"]
ResultReason = Literal[
    "unknown",
    "observed",
    "nothing_usable",
    "fallback",
    "shown_other",
    "no_impression",
    "left_before_impression",
]
ClosedBy = Literal["unknown", "visit_end", "reactions", "final_reward", "deadline"]
Directive = Literal["unknown", "add", "promote", "rollback", "retire", "prior", "explore", "erase"]


@dataclass(frozen=True, slots=True)
class OutcomeClosed:
    """A closed decision with its reward. Every decision gets exactly one."""

    choice: Choice
    """The decision's own account of its choice."""
    result: Result
    """What became of it; each decision counts in exactly one of the four."""
    result_reason: ResultReason
    """Why."""
    source: Source
    """Where the reward comes from."""
    reward_raw: float
    """The reward before clipping."""
    reward: float
    """The reward, inside the loop's range."""
    clipped: bool
    """True: `reward` is not `reward_raw`."""
    precision: float
    """How sure the observation is, 0..1: the smaller of the two confidences; 1 where none."""
    closed_by: ClosedBy
    """What closed it."""
    closed_at_ms: int
    """When it closed, log time, ms."""
    learnable: bool
    """True: a policy may learn from it."""
    learnable_reason: str
    """Why, or why not."""
    shown_at_ms: int | None = None
    """Event time of the showing, ms."""
    shown_action_id: str | None = None
    """The action really shown."""
    happiness_after: float | None = None
    """Happiness after the greeting, weighted by confidence, 0..1."""
    confidence_after: float | None = None
    """Mean confidence of the faces after it, 0..1."""
    member_ids: tuple[str, ...] = ()
    """Ids of the records that made the reward, in the order they count."""

    def __post_init__(self) -> None:
        check_finite("reward", self.reward)
        check_finite("reward_raw", self.reward_raw)
        check_range("precision", self.precision, 0.0, 1.0)
        check_time("closed_at_ms", self.closed_at_ms)


@dataclass(frozen=True, slots=True)
class NamedArray:
    """An array of float64, readable in any language."""

    name: str
    """What it is."""
    shape: tuple[int, ...]
    """Its extent in each dimension, slowest first."""
    data: bytes
    """The values, little-endian IEEE 754 binary64, last dimension fastest."""

    def __post_init__(self) -> None:
        size = 8
        for extent in self.shape:
            size *= extent
        if len(self.data) != size:
            problem = f"array {self.name!r} of shape {self.shape} has {len(self.data)} bytes"
            raise InvalidRecord(problem, f"It must have {size}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A number with its name, given as a reason."""

    name: str
    """What it is."""
    value: float
    """The number."""


@dataclass(frozen=True, slots=True)
class PolicyDirected:
    """Something from outside that `learn` must obey, with its reason, in its own log."""

    directive_id: str
    """Id of this directive; a repeat of it is the same directive."""
    loop_id: str
    """The loop."""
    policy_id: str
    """The policy it concerns."""
    kind: Directive
    """What to do."""
    by: str
    """Who says so."""
    reason: str
    """Why."""
    new_epoch: int | None = None
    """The epoch this starts."""
    base_epoch: int | None = None
    """Epoch of the base the new epoch starts from."""
    base_version: int | None = None
    """Version of that base."""
    learn_from_log_time_ms: int | None = None
    """Outcomes below this log time are not learned in the new epoch, ms."""
    floor_ppb: int | None = None
    """The exploration floor from now on, in 1e-9."""
    numbers: tuple[Evidence, ...] = ()
    """Numbers of the directive."""
    arrays: tuple[NamedArray, ...] = ()
    """Arrays of the directive, such as a prior learned by siblings."""
    snapshot_checksum: str | None = None
    """Checksum of the snapshot it speaks of."""
    evidence: tuple[Evidence, ...] = ()
    """What was measured before it was given."""

    def __post_init__(self) -> None:
        check_id("directive_id", self.directive_id)
        check_id("loop_id", self.loop_id)
        if self.floor_ppb is not None:
            check_range("floor_ppb", self.floor_ppb, 0, PPB)


@dataclass(frozen=True, slots=True)
class PolicySnapshot:
    """One version of one policy: names and arrays, which any language can read."""

    loop_id: str
    """The loop."""
    policy_id: str
    """The policy."""
    epoch: int
    """Counts the times it was started anew."""
    version: int
    """Records of the learning log that changed it in this epoch."""
    config_hash: str
    """The configuration it learned under."""
    features_hash: str
    """Hash of the features' names in their order."""
    algorithm: str
    """How the arrays are to be read."""
    actions: tuple[str, ...]
    """Ids of the actions, in the order of the arrays."""
    features: tuple[str, ...]
    """Names of the features, in the order of the arrays."""
    arrays: tuple[NamedArray, ...]
    """The state."""
    role: Role
    """Whether it decides."""
    role_since_log_time_ms: int
    """Since when, log time, ms."""
    floor_ppb: int
    """The exploration floor it is served with, in 1e-9."""
    checksum: str
    """Hash over algorithm, actions, features and arrays only."""
    learned_through_id: str | None = None
    """The last decision it learned from."""
    learned_through_log_time_ms: int | None = None
    """Log time of that outcome, ms."""
    base_epoch: int | None = None
    """Epoch of the base this epoch started from; None: the prior."""
    base_version: int | None = None
    """Version of that base."""

    def __post_init__(self) -> None:
        check_id("loop_id", self.loop_id)
        check_id("policy_id", self.policy_id)
        check_range("epoch", self.epoch, 0, 2**31)
        check_range("version", self.version, 0, 2**62)
