"""The outcomes again: the join over the log's source streams, beside what the log holds."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

from connectors.logs import Row
from engines.one_key import Memory, OneKey, RawRecord, part_named, side_of
from pipelines.operators import Aside, Emit, Shared
from schemas.codec import encode, released
from schemas.operations import SideRecord
from schemas.outcomes import OutcomeClosed
from schemas.streams import DEAD_LETTERS, LATE, UNMATCHED
from serving.replay.survey import value_of
from serving.replay.verdicts import (
    GONE,
    LAG_MS,
    TOLD_MAX,
    History,
    Verdict,
    complete_ms,
    differences,
)

JOIN = part_named("join")
_NOTHING: Shared = {}
_TICKS = tuple(head for head, entry in released().items() if entry.name == "Tick")
_SIDES = (LATE, UNMATCHED, DEAD_LETTERS, "alarms")


def joined(rows: Iterable[Row], through_ms: int) -> Iterator[tuple[int, Emit]]:
    """Run the join over its source streams, key by key in the contract's order.

    Only keys that are open are held: a million decisions a day, each open for half a minute, are
    some hundred at once.

    Parameters
    ----------
    rows : iterable of Row
        The source streams in the order of log time; their bytes are read here.
    through_ms : int
        The log is complete below this time: what comes later is left out.

    Yields
    ------
    at_ms : int
        Log time of the record or timer that brought it, ms.
    emit : Emit
        What the join gave out.
    """
    one = OneKey(JOIN, JOIN.inputs)
    memories: dict[str, Memory] = {}
    due: list[tuple[int, str]] = []

    def advance(until_ms: int) -> Iterator[tuple[int, Emit]]:
        while due and due[0][0] < until_ms:
            at_ms, key = heapq.heappop(due)
            memory = memories.get(key)
            if memory is None or memory.next_ms != at_ms:
                continue  # it was taken with another record of this time, or its timer moved
            for emit in one.advance(memory, at_ms, _NOTHING):
                yield at_ms, emit
            if memory.is_empty:
                del memories[key]
            else:
                heapq.heappush(due, (memory.next_ms, key))

    for row in rows:
        if row.log_time_ms >= through_ms:
            break
        if row.value.startswith(_TICKS):
            continue
        yield from advance(row.log_time_ms)
        record = RawRecord(
            row.stream, row.key, row.log_time_ms, row.value, row.position, row.partition
        )
        memories.setdefault(row.key, Memory()).waiting.append(record)
        heapq.heappush(due, (row.log_time_ms, row.key))
    yield from advance(through_ms)


@dataclass(slots=True)
class _Again:
    """What the join gave out again, as digests: of a million outcomes 16 bytes each."""

    outcomes: dict[str, bytes] = field(default_factory=dict)
    # Too young to be missed where the log does not have them.
    young: set[str] = field(default_factory=set)
    sides: dict[bytes, str] = field(default_factory=dict)


def replay_outcomes(history: History) -> Verdict:
    """Join the log's source streams again, and compare the outcomes as a set of bytes.

    The other way round, whatever the join puts aside again must stand in its side output.

    Parameters
    ----------
    history : History
        The log, or an archive of it.

    Raises
    ------
    LogUnavailable
        When it cannot be read.
    """
    verdict = Verdict("outcomes")
    through_ms = complete_ms(history)
    first = next(history.scan("decisions"), None)
    begins_ms = through_ms if first is None else first.log_time_ms
    again = _run(history, through_ms)
    # Read after the run: a live job has closed meanwhile what was due when it began.
    differing: list[tuple[str, OutcomeClosed]] = []
    seen: dict[str, bytes] = {}
    for row in history.scan("outcomes"):
        outcome = value_of(row)  # unreadable: if it was an outcome, its decision has none now
        if not isinstance(outcome, OutcomeClosed):
            continue
        decision_id, digest = outcome.choice.decision_id, _digest(row.value)
        if decision_id in seen:
            # Where delivery is at least once, the very same outcome may stand there twice.
            if seen[decision_id] != digest:
                verdict.differs(f"decision {decision_id} has two outcomes in the log that differ")
            continue
        seen[decision_id] = digest
        if decision_id not in again.outcomes:
            _from_nowhere(verdict, row, outcome, begins_ms, through_ms)
        elif again.outcomes.pop(decision_id) == digest:
            verdict.identical += 1
        else:
            differing.append((decision_id, outcome))
            again.young.discard(decision_id)
    _tell(verdict, history, differing, through_ms)
    for decision_id in again.outcomes:
        if decision_id in again.young:
            verdict.beside["not closed yet"] += 1
        elif decision_id not in seen:
            verdict.differs(
                f"the outcome of decision {decision_id} is missing in the log, or cannot be read; "
                "is the job running?"
            )
    _compare_sides(verdict, history, again)
    return verdict


def _run(history: History, through_ms: int) -> _Again:
    again = _Again()
    for at_ms, emit in joined(history.scan(*JOIN.inputs), through_ms):
        is_young = at_ms >= through_ms - LAG_MS
        if emit.stream == "outcomes":
            decision_id = emit.value.choice.decision_id
            again.outcomes[decision_id] = _digest(encode(emit.value))
            if is_young:
                again.young.add(decision_id)
        elif not is_young:
            value = side_of(emit.value) if isinstance(emit.value, Aside) else emit.value
            again.sides[_side_digest(value)] = _about(emit.stream, value)
    return again


def _about(stream: str, value: Any) -> str:
    if stream == "alarms":
        return f"alarm {value.alarm_id}"
    return f"{value.stream}[{value.offset}] of {value.key} in {stream} ({value.reason})"


def _from_nowhere(
    verdict: Verdict, row: Row, outcome: OutcomeClosed, begins_ms: int, through_ms: int
) -> None:
    if outcome.choice.decided_at_ms < begins_ms:
        verdict.beside[GONE] += 1
        return
    # Its own log time, too: whoever altered `closed_at_ms` cannot move an outcome out of sight.
    if outcome.closed_at_ms >= through_ms and row.log_time_ms >= through_ms:
        verdict.beside["newer than what is complete"] += 1
        return
    name = outcome.choice.decision_id
    verdict.differs(f"the outcome of decision {name} follows from nothing in the log")


def _tell(
    verdict: Verdict,
    history: History,
    differing: list[tuple[str, OutcomeClosed]],
    through_ms: int,
) -> None:
    for decision_id, logged in differing[:TOLD_MAX]:
        rows = history.scan(*JOIN.inputs, key=decision_id)
        made = [emit.value for _, emit in joined(rows, through_ms) if emit.stream == "outcomes"]
        where = next((text for each in made for text in differences(each, logged)), "its bytes")
        verdict.differs(f"outcome of decision {decision_id}: {where}")
    verdict.differing += len(differing[TOLD_MAX:])


def _compare_sides(verdict: Verdict, history: History, again: _Again) -> None:
    missing = dict(again.sides)
    for row in history.scan(*_SIDES) if missing else ():
        value = value_of(row)
        if value is not None:
            missing.pop(_side_digest(value), None)
    for text in missing.values():
        verdict.differs(f"the join puts aside {text}; the log does not say so")


def _side_digest(value: Any) -> bytes:
    # Not its place: a bridge copies a log to other places, side records and all.
    if isinstance(value, SideRecord):
        value = replace(value, partition=0, offset=0)
    return _digest(encode(value))


def _digest(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()
