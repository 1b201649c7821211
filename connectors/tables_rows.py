"""Records as rows of the tables: pure functions, the same for every database.

A decision and an outcome are a row each, and of several with one id the first in the log holds. A
visit is what several records tell of it: a `Visit` is added to another, in any order of the
streams, and `visit_row` makes the row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from connectors.tables_schema import Row, Table, Value
from schemas.checks import PPB
from schemas.compiled import quick
from schemas.decisions import Choice, DecisionMade, VisitEnded
from schemas.frames import FrameAnalyzed
from schemas.outcomes import OutcomeClosed

DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_MINUTE_MS = 60_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DAY = 2_932_896  # 9999-12-31: no date of Python's lies behind it
_LAST_MS = (_LAST_DAY + 1) * DAY_MS - 1


def day_of(time_ms: int) -> str:
    """Return the UTC day of a time, ``2026-11-21``."""
    return _day(time_ms // DAY_MS)


@lru_cache(4_096)
def _day(number: int) -> str:
    return (_EPOCH + timedelta(days=min(max(number, 0), _LAST_DAY))).date().isoformat()


def is_late(decision: DecisionMade, log_time_ms: int) -> bool:
    """Whether a decision came so late that it is none (rule 7 of the join)."""
    return log_time_ms > decision.choice.decided_at_ms + decision.rules.dedup_horizon_ms


def decision_row(decision: DecisionMade) -> Row:
    """Return a decision as a row of `DECISIONS`."""
    choice = decision.choice
    said = decision.presentation
    return (
        *_whose(choice),
        day_of(choice.decided_at_ms),
        choice.decided_at_ms,
        *_who(choice),
        _text(choice.baseline_id),
        choice.support,
        sum(action.eligible for action in choice.actions),
        choice.control_share_ppb / PPB,
        choice.floor_ppb / PPB,
        choice.host,
        _text(choice.config_hash),
        _number(choice.happiness_before),
        _number(choice.confidence_before),
        _text(said.text),
        _text(said.language),
        _text(said.mood),
    )


def outcome_row(outcome: OutcomeClosed) -> Row:
    """Return an outcome as a row of `OUTCOMES`."""
    choice = outcome.choice
    shown_ms = _time(outcome.shown_at_ms)
    return (
        *_whose(choice),
        day_of(choice.decided_at_ms),
        choice.decided_at_ms,
        shown_ms,
        None if shown_ms is None else shown_ms - choice.decided_at_ms,
        outcome.closed_at_ms,
        *_who(choice),
        _text(outcome.shown_action_id),
        outcome.result,
        outcome.result_reason,
        outcome.source,
        outcome.reward,
        outcome.reward_raw,
        outcome.clipped,
        outcome.precision,
        _number(choice.happiness_before),
        _number(choice.confidence_before),
        _number(outcome.happiness_after),
        _number(outcome.confidence_after),
        len(outcome.member_ids),
        outcome.closed_by,
        outcome.learnable,
        _text(outcome.learnable_reason),
    )


def _whose(choice: Choice) -> Row:
    return choice.decision_id, choice.visit_id, choice.loop_id, choice.kiosk_id


def _who(choice: Choice) -> Row:
    return (
        _text(choice.action_id),
        choice.control,
        choice.propensity_ppb / PPB,
        choice.mode,
        _text(choice.policy_id),
        choice.epoch,
        choice.version,
        _text(choice.variant),
    )


@dataclass(frozen=True, slots=True)
class Visit:
    """What is known of a visit; None: not yet."""

    visit_id: str
    """The visit."""
    decision_id: str
    """Its decision."""
    loop_id: str
    """The loop."""
    kiosk_id: str
    """The kiosk."""
    started_ms: int | None = None
    """When its first picture was taken, ms."""
    last_seen_ms: int | None = None
    """When its last picture was taken, ms."""
    ended_ms: int | None = None
    """When it ended, ms."""
    end_reason: str | None = None
    """Why."""
    pictures: int | None = None
    """Pictures taken of it."""
    answer: str | None = None
    """What became of the first picture."""
    analyser: str | None = None
    """Who answered it."""
    notice: str | None = None
    """Where the notice stood."""
    language: str | None = None
    """The language wished for."""
    utc_offset_minutes: int | None = None
    """Local time minus UTC, minutes."""


_new_visit = quick(Visit)  # made twice for most records of a log: 0.8 us, not 3.4


def visit_seen(frame: FrameAnalyzed) -> Visit:
    """Return what the answer to a picture tells of its visit."""
    first = frame.phase == "pre"
    return _new_visit(
        frame.visit_id,
        frame.decision_id,
        frame.loop_id,
        frame.kiosk_id,
        started_ms=frame.captured_at_ms,
        last_seen_ms=frame.captured_at_ms,
        pictures=frame.sequence + 1,
        answer=frame.status if first else None,
        analyser=_text(frame.analyser) if first else None,
        notice=frame.notice if first else None,
        language=_text(frame.language) if first else None,
        utc_offset_minutes=frame.utc_offset_minutes,
    )


def visit_ended(event: VisitEnded) -> Visit:
    """Return what the end of a visit tells of it."""
    return _new_visit(
        event.visit_id,
        event.decision_id,
        event.loop_id,
        event.kiosk_id,
        ended_ms=event.ended_at_ms,
        end_reason=event.reason,
    )


def together(known: Visit, more: Visit) -> Visit:
    """Return a visit with what another record tells of it; a repeat changes nothing.

    Of what two tell differently the first holds: all of a decision's records of one stream stand
    in one partition, and different streams tell different things, so this is the first in the log.
    """
    return _new_visit(
        known.visit_id,
        known.decision_id,
        known.loop_id,
        known.kiosk_id,
        _least(known.started_ms, more.started_ms),
        _most(known.last_seen_ms, more.last_seen_ms),
        *(
            (known.ended_ms, known.end_reason)
            if known.ended_ms is not None
            else (more.ended_ms, more.end_reason)
        ),
        _most(known.pictures, more.pictures),
        *(
            (known.answer, known.analyser, known.notice, known.language)
            if known.answer is not None
            else (more.answer, more.analyser, more.notice, more.language)
        ),
        more.utc_offset_minutes if known.utc_offset_minutes is None else known.utc_offset_minutes,
    )


def visit_row(visit: Visit) -> Row:
    """Return a visit as a row of `VISITS`."""
    started_ms, ended_ms, offset = visit.started_ms, visit.ended_ms, visit.utc_offset_minutes
    local_ms = None if started_ms is None else max(0, started_ms + (offset or 0) * _MINUTE_MS)
    return (
        visit.visit_id,
        visit.decision_id,
        visit.loop_id,
        visit.kiosk_id,
        day_of((started_ms if started_ms is not None else ended_ms) or 0),
        started_ms,
        visit.last_seen_ms,
        ended_ms,
        visit.end_reason,
        None if started_ms is None or ended_ms is None else ended_ms - started_ms,
        visit.pictures,
        visit.answer,
        visit.analyser,
        visit.notice,
        visit.language,
        offset,
        None if local_ms is None else day_of(local_ms),
        None if local_ms is None else local_ms % DAY_MS // _HOUR_MS,
    )


def visit_of(row: Row) -> Visit:
    """Return what a row of `VISITS` says; the opposite of `visit_row`."""
    known: tuple[Any, ...] = (*row[:4], *row[5:9], *row[10:16])
    return _new_visit(*known)


def as_dict(table: Table, row: Row) -> dict[str, Value]:
    """Return a row by the names of its columns."""
    return dict(zip(table.names, row, strict=True))


def _text(value: str | None) -> str | None:
    # Postgres takes no NUL in a text, and one text from a page must not stop all others.
    return value if value is None or "\0" not in value else value.replace("\0", "\ufffd")


def _number(value: float | None) -> float | None:
    # SQLite makes NULL of NaN; so that all databases hold the same, all do.
    return value if value is None or math.isfinite(value) else None


def _time(value: int | None) -> int | None:
    # The one time that a record takes unchecked: no database has dates outside of these.
    return value if value is None or 0 <= value <= _LAST_MS else None


def _least(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else min(one, other)


def _most(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else max(one, other)
