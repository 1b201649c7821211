"""join: a decision with everything seen after it, inside its reward window. One outcome, always.

The rules are numbered as in docs/architecture.md, "The join's rules".
"""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter

import msgspec

from pipelines.operators import Aside, Emit, Record, Shared, Step
from pipelines.rewards import close
from pipelines.windows import (
    Closed,
    Ended,
    Member,
    Open,
    Shown,
    State,
    Waiting,
    event_time_ms,
    member_of,
)
from schemas.decisions import DecisionMade, DecisionShown, VisitEnded
from schemas.frames import FrameAnalyzed
from schemas.operations import AlarmRaised
from schemas.outcomes import ClosedBy, OutcomeClosed
from schemas.streams import LATE, UNMATCHED

ORPHAN_WAIT_MS = 60_000
"""How long an event waits for its decision, log time."""
ORPHANS_MAX = 32
"""Events that wait for one decision id at most: whoever invents ids cannot fill the memory."""
MEMBERS_MAX = 1_024
"""Reactions to one decision at most, for the same reason."""


class Join:
    """Join decisions with impressions, answers to post frames, rewards and ends of visits."""

    def on_event(self, state: State | None, record: Record, shared: Shared) -> Step[State]:
        """Take one record of a decision id."""
        value = record.value
        if isinstance(value, FrameAnalyzed) and value.phase != "post":
            return _stay(state)  # rule 6: a pre analysis is the decision's business
        if isinstance(value, DecisionMade):
            return _decision(state, record, value)
        match state:
            case Open():
                return _event(state, record)
            case Closed():
                return _aside(state, record, LATE, "window_closed", "Its decision has its outcome")
            case Waiting(orphans):
                return _wait(orphans, record)
            case None:
                return _wait((), record)

    def on_timer(self, state: State | None, log_time_ms: int, shared: Shared) -> Step[State]:
        """Close a window at its deadline, give up waiting, or forget a tombstone."""
        match state:
            case Open() if log_time_ms >= state.deadline_ms:
                step = _close(state, "deadline", state.deadline_ms)
                # Every record of this log time has come, so a tombstone that ends with it has
                # nothing left to stop; and a timer must not be set for the time that fires.
                over = isinstance(step.state, Closed) and step.state.until_ms <= log_time_ms
                return _stay(None, step.emits) if over else step
            case Closed(until_ms) if log_time_ms >= until_ms:
                return Step(None)
            case Waiting(orphans):
                kept = tuple(o for o in orphans if o.log_time_ms + ORPHAN_WAIT_MS > log_time_ms)
                gone = tuple(o for o in orphans if o.log_time_ms + ORPHAN_WAIT_MS <= log_time_ms)
                return _stay(Waiting(kept) if kept else None, tuple(map(_unmatched, gone)))
            case _:
                return _stay(state)

    def pack(self, state: State) -> tuple[bytes, tuple[Record, ...]]:
        """Take a window apart: numbers and ids as MessagePack, records by themselves."""
        match state:
            case Closed(until_ms):
                return _PACK(until_ms), ()
            case Waiting(orphans):
                return b"", orphans
            case Open():
                shown = _SHOWN(state.shown) if state.shown else None
                ended = _ENDED(state.ended) if state.ended else None
                members = [_MEMBER(member) for member in state.members]
                data = _PACK((shown, ended, members))
                return data, (state.decision, *state.held)

    def unpack(self, data: bytes, records: tuple[Record, ...]) -> State:
        """Put a window together again."""
        if not data:
            return Waiting(records)
        packed = _UNPACK(data)
        if isinstance(packed, int):
            return Closed(packed)
        shown, ended, members = packed
        return Open(
            records[0],
            Shown(*shown) if shown else None,
            Ended(ended[0], ended[1], tuple(ended[2])) if ended else None,
            tuple(Member(*member) for member in members),
            records[1:],
        )


_PACK = msgspec.msgpack.Encoder().encode
_UNPACK = msgspec.msgpack.Decoder().decode


# What takes a value apart into its fields: a third of the time of asking for each by name.
_SHOWN, _ENDED, _MEMBER = (
    attrgetter(*(field.name for field in fields(kind))) for kind in (Shown, Ended, Member)
)


def _decision(state: State | None, record: Record, decision: DecisionMade) -> Step[State]:
    if isinstance(state, Open | Closed):
        return _stay(state)  # rule 7: a repeat changes nothing
    horizon_ms = decision.rules.dedup_horizon_ms
    if record.log_time_ms > decision.choice.decided_at_ms + horizon_ms:
        error = f"It came more than dedup_horizon_ms = {horizon_ms} after it was decided"
        return _aside(state, record, LATE, "decision_too_old", error)
    window = Open(record)
    step: Step[State] = _stay(window)
    emits: tuple[Emit, ...] = ()
    for orphan in state.orphans if isinstance(state, Waiting) else ():
        # What waited is taken as if it had come just now, in the order it came.
        step = _close_if_past(step.state, orphan.log_time_ms, record.log_time_ms)
        emits += step.emits
        step = _again(step.state, orphan, record.log_time_ms)
        emits += step.emits
    step = _close_if_past(step.state, record.log_time_ms, record.log_time_ms)
    return Step(step.state, emits + step.emits, step.wake_at_ms)


def _again(state: State | None, orphan: Record, now_ms: int) -> Step[State]:
    if isinstance(state, Open):
        return _event(state, orphan, now_ms)
    return _aside(state, orphan, LATE, "window_closed", "Its decision has its outcome")


def _close_if_past(state: State | None, log_time_ms: int, now_ms: int) -> Step[State]:
    # An impression that waited for its decision may bring a deadline that is already over; a
    # timer must not be set in the past, so what it would have done is done now.
    if isinstance(state, Open) and state.deadline_ms < log_time_ms:
        return _close(state, "deadline", now_ms)
    return _stay(state)


def _event(window: Open, record: Record, now_ms: int | None = None) -> Step[State]:
    now_ms = record.log_time_ms if now_ms is None else now_ms
    match record.value:
        case DecisionShown():
            return _shown(window, record, now_ms)
        case VisitEnded():
            return _ended(window, record, now_ms)
        case _:
            return _reaction(window, record, now_ms)


def _shown(window: Open, record: Record, now_ms: int) -> Step[State]:
    shown: DecisionShown = record.value
    if window.shown is not None:
        return _stay(window)  # the first one opened the window; a repeat changes nothing
    at_ms = event_time_ms(record)
    if not window.contains(at_ms):
        return _outside(window, record)
    held = window.held
    # The window's deadline counts from the impression's own log time, also when it waited.
    seen = Shown(shown.event_id, shown.action_id, at_ms, record.log_time_ms)
    window = window.now(seen, window.ended, window.members, ())
    emits: tuple[Emit, ...] = ()
    for reaction in held:
        step = _take(window, reaction)
        assert isinstance(step.state, Open)  # noqa: S101 - taking a reaction closes nothing
        window = step.state
        emits += step.emits
    return _close_if_due(window, now_ms, emits)


def _ended(window: Open, record: Record, now_ms: int) -> Step[State]:
    ended: VisitEnded = record.value
    if window.ended is not None:
        return _stay(window)
    at_ms = event_time_ms(record)
    if not window.contains(at_ms):
        return _outside(window, record)
    window = window.now(
        window.shown,
        Ended(ended.event_id, at_ms, ended.post_frame_ids),
        window.members,
        window.held,
    )
    return _close_if_due(window, now_ms)


def _reaction(window: Open, record: Record, now_ms: int) -> Step[State]:
    if window.opened_at_ms is None:
        if len(window.held) >= ORPHANS_MAX:
            error = f"Already {ORPHANS_MAX} reactions wait for the impression of this decision"
            return _aside(window, record, LATE, "too_many", error)
        return _stay(window.now(window.shown, window.ended, window.members, (*window.held, record)))
    step = _take(window, record)
    assert isinstance(step.state, Open)  # noqa: S101 - taking a reaction closes nothing
    return _close_if_due(step.state, now_ms, step.emits)


def _take(window: Open, record: Record) -> Step[State]:
    decision: DecisionMade = window.decision.value
    member = member_of(record, decision.box_before)
    if any(member.id == known.id and member.kind == known.kind for known in window.members):
        return _stay(window)  # rule 7: a repeat changes nothing
    if not window.contains(member.at_ms):
        return _outside(window, record)
    if len(window.members) >= MEMBERS_MAX:
        error = f"A decision takes at most {MEMBERS_MAX} reactions"
        return _aside(window, record, LATE, "too_many", error)
    return _stay(window.now(window.shown, window.ended, (*window.members, member), window.held))


def _close_if_due(window: Open, now_ms: int, emits: tuple[Emit, ...] = ()) -> Step[State]:
    closed_by = _closed_by(window)
    if closed_by is None:
        return _stay(window, emits)
    step = _close(window, closed_by, now_ms)
    return Step(step.state, emits + step.emits, step.wake_at_ms)


def _closed_by(window: Open) -> ClosedBy | None:
    ended = window.ended
    if window.opened_at_ms is None:
        return "visit_end" if ended else None  # rule 1: left before the impression
    if any(member.final for member in window.members):
        return "final_reward"
    wanted = window.rules.closing_reactions
    if wanted and sum(map(window.usable, window.members)) >= wanted:
        return "reactions"
    if ended is not None:
        answered = {member.id for member in window.members if member.kind == "post"}
        if answered.issuperset(ended.post_frame_ids):
            return "visit_end"
    return None


def _close(window: Open, closed_by: ClosedBy, now_ms: int) -> Step[State]:
    outcome = close(window, closed_by, now_ms)
    emits = [Emit(outcome, "outcomes")]
    if outcome.result_reason == "shown_other":
        emits.append(Emit(_alarm(outcome, now_ms), "alarms"))
    # What waited for an impression that never came was in time, but has nothing to count for.
    emits += [
        Emit(Aside(record, "not_activated", "Its decision was never shown"), LATE)
        for record in window.held
    ]
    decision: DecisionMade = window.decision.value
    until_ms = window.decided_at_ms + decision.rules.dedup_horizon_ms
    # A repeat with the very log time of `until_ms` is not yet too old to be opened again.
    tombstone = Closed(until_ms) if until_ms >= now_ms else None
    return _stay(tombstone, tuple(emits))


def _alarm(outcome: OutcomeClosed, now_ms: int) -> AlarmRaised:
    choice = outcome.choice
    return AlarmRaised(
        alarm_id=f"{choice.decision_id[:240]}.shown_other",
        loop_id=choice.loop_id,
        kind="shown_other",
        detector="join",
        raised_at_ms=now_ms,
    )


def _wait(orphans: tuple[Record, ...], record: Record) -> Step[State]:
    if len(orphans) >= ORPHANS_MAX:
        emit = _unmatched(record, "too_many_orphans")
        return _stay(Waiting(orphans), (emit,))
    return _stay(Waiting((*orphans, record)))


def _unmatched(record: Record, reason: str = "no_decision") -> Emit:
    error = f"No decision came for it within {ORPHAN_WAIT_MS} ms of log time"
    return Emit(Aside(record, reason, error), UNMATCHED)


def _outside(window: Open, record: Record) -> Step[State]:
    error = (
        f"Its event time {event_time_ms(record)} lies outside the reward window; "
        f"check the clock of whoever sent it"
    )
    return _aside(window, record, LATE, "outside_window", error)


def _aside(
    state: State | None, record: Record, stream: str, reason: str, error: str
) -> Step[State]:
    return _stay(state, (Emit(Aside(record, reason, error), stream),))


def _stay(state: State | None, emits: tuple[Emit, ...] = ()) -> Step[State]:
    return Step(state, emits, _wake_at_ms(state))


def _wake_at_ms(state: State | None) -> int | None:
    match state:
        case Open():
            return state.deadline_ms
        case Closed(until_ms):
            return until_ms
        case Waiting(orphans):
            return min(record.log_time_ms for record in orphans) + ORPHAN_WAIT_MS
        case None:
            return None
