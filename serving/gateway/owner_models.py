"""What the owner's API answers: its OpenAPI document is made of these."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from serving.ledger import Ledger

DurationName = Literal["to_greeting", "to_showing", "analysis", "to_policy"]
Verdict = Literal["more", "fewer", "early", "no_control", "no_visits"]


class Answer(BaseModel):
    """A part of an answer: nothing may be in it that is not written here."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Mean(Answer):
    """A mean with an interval that holds at every moment, whoever looks how often."""

    value: float
    low: float
    high: float
    n: int = Field(description="Visits it rests on.")


class Difference(Answer):
    """What was learned beside the control share."""

    verdict: Verdict = Field(
        description="`more` or `fewer`: the interval of `lift` excludes 0; `early`: it does not; "
        "`no_control`: nobody was in the control share; `no_visits`: nobody came."
    )
    learned: Mean | None
    control: Mean | None
    lift: Mean | None = Field(description="Learned less control, by the draw that parted them.")
    needed: int | None = Field(
        description="About so many more visits make the interval of `lift` tell something; null: "
        "it does, or nobody can say."
    )


class Greeting(Answer):
    """One greeting."""

    action_id: str
    text: str
    mood: str
    enabled: bool
    baseline: bool
    given: int = Field(description="Decisions for it.")
    smile: Mean | None = Field(description="Share of visitors with a smile after it, 0..1.")
    reward: Mean | None = Field(description="Mean reward of those who got it.")
    not_seen: float | None = Field(description="Share of its reactions that nobody saw, 0..1.")
    not_seen_alarm: bool = Field(description="True: more or fewer than the others lose.")


class Cell(Answer):
    """One greeting in one group of visitors."""

    group: str
    action_id: str
    smile: Mean
    reward: Mean


class Slices(Answer):
    """Greetings by who came: groups known before the greeting was chosen."""

    by: str
    title: str
    groups: list[str]
    cells: list[Cell]


class Step(Answer):
    """A stretch of visits one after the other."""

    from_ms: int
    to_ms: int
    learned_smile: Mean | None
    learned_reward: Mean | None
    control_smile: Mean | None
    control_reward: Mean | None


class MinuteTold(Answer):
    """The visits whose greeting was decided in one minute."""

    at_ms: int
    visits: int
    smiles: int
    no_smile: int
    not_seen: int
    not_greeted: int
    open: int
    reward: float | None = Field(description="Mean reward of those that have one.")


class Hour(Answer):
    """The last hour, minute by minute."""

    live: bool = Field(description="False: the hour is the last one in the log, long ago.")
    from_ms: int
    to_ms: int
    visits: int
    smiles: int
    minutes: list[MinuteTold]


# Like any other field of an answer, `problems` is always there, though the ledger has a default.
_ALL_THERE = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


@dataclass(frozen=True, slots=True, config=_ALL_THERE)
class LedgerTold(Ledger):
    """decisions = rewarded + defaulted + dropped + not_activated + open, of all loops.

    Its fields are the ledger's own; of `problems` these are the first.
    """


LEDGER = TypeAdapter(LedgerTold)
"""Writes a ledger as JSON."""


class Duration(Answer):
    """How long something takes: the newest thousand of its kind."""

    name: DurationName
    count: int
    p50_ms: float | None
    p99_ms: float | None
    edges_ms: list[int]
    bars: list[int] = Field(description="How many lie between each edge and the next.")


class Ways(Answer):
    """How the newest decisions were chosen."""

    over: int = Field(description="Decisions counted, at most a thousand.")
    control: int
    favourite: int
    exploring: int
    fallback: int
    floor: float = Field(description="Exploration floor in force, 0..1.")
    control_share: float = Field(description="Control share in force, 0..1.")


class PolicyTold(Answer):
    """The newest version of a policy."""

    policy_id: str
    algorithm: str
    role: str
    epoch: int
    version: int
    role_since_ms: int
    learned_at_ms: int | None
    floor: float
    checksum: str


class DirectiveTold(Answer):
    """Something from outside that a policy obeyed."""

    at_ms: int
    policy_id: str
    kind: str
    by: str
    reason: str


class AlarmTold(Answer):
    """Something a person should know."""

    alarm_id: str
    at_ms: int
    kind: str
    detector: str
    numbers: dict[str, float]


class DecisionLine(Answer):
    """One decision in a line."""

    number: int
    decision_id: str
    kiosk_id: str | None
    decided_at_ms: int
    action_id: str
    text: str
    control: bool
    mode: str
    propensity: float
    happiness_before: float | None
    happiness_after: float | None
    reward: float | None
    result: str


class ReadingTold(Answer):
    """How far the log was read."""

    caught_up: bool
    share: float | None
    records: int
    unreadable: int
    problem: str
    cure: str


class Summary(Answer):
    """Everything the page shows of one loop at one moment."""

    loop_id: str | None
    loops: list[str]
    log: str
    recording: bool = Field(description="True: the log's times are a recording's, not a clock's.")
    now_ms: int
    newest_ms: int
    reading: ReadingTold
    visits: int
    judged: int
    waiting: int = Field(description="Closed, and waiting for one decided before that is open.")
    left_out: dict[str, int]
    sees_faces: bool = Field(description="False: no face was ever seen after; smiles say nothing.")
    reward_low: float
    reward_high: float
    smile: Difference
    reward: Difference
    greetings: list[Greeting]
    slices: list[Slices]
    course: list[Step]
    hour: Hour
    ledger: LedgerTold
    speed: list[Duration]
    ways: Ways
    policies: list[PolicyTold]
    directives: list[DirectiveTold]
    alarms: list[AlarmTold]
    alarms_ever: int
    newest: list[DecisionLine]


class Decisions(Answer):
    """Decisions, newest first."""

    decisions: list[DecisionLine]
    before: int | None = Field(
        description="Give it as `before` for older ones; null: none are kept here."
    )
    kept: int = Field(description="So many of the newest are kept here; the log has all.")


class Problem(Answer):
    """Why something cannot be answered, and what to do."""

    problem: str
    cure: str
