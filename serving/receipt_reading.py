"""Reads one decision's story back from the log: nothing is kept for it beside the log."""

from __future__ import annotations

from collections.abc import Iterator

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
from serving.receipt import Reaction, Receipt
from serving.receipt_learning import learnt
from serving.receipt_lookup import Lookup, Scanned
from serving.replay.verdicts import History

SOURCES = ("analyses", "decisions", "impressions", "rewards", "visits")
"""The streams whose records of a decision have its id as their key."""
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
