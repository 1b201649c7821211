"""learn as a PyFlink function: each outcome once, one snapshot in 100 ms of log time at most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyflink.common import Types
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from engines.flink.functions import STATE_BYTES, Steps
from engines.flink.settings import JobSettings
from engines.one_key import RawRecord
from pipelines.learn import newest_snapshots
from pipelines.operators import Aside, Emit, Shared
from schemas.errors import RecordError
from schemas.outcomes import OutcomeClosed
from schemas.streams import DEAD_LETTERS, LATE

COALESCE_MS = 100
"""Log time between two snapshots of a policy: a reader of `policies` need not read each version."""
REMEMBERED_OUTCOMES = 262_144
"""Ids of outcomes that are remembered, so that a repeat is not learned twice."""
_NOTHING: Shared = {}


class LearnFunction(KeyedProcessFunction):  # type: ignore[misc]
    """Learn the outcomes of a loop in the order of their log.

    `outcomes` is written at least once; a repeat has the bytes of its first. Ids are remembered in
    a ring: the place of an id in the order of the log, modulo its size, names what it replaces.

    Parameters
    ----------
    settings : JobSettings
        What the job was told.
    """

    def __init__(self, settings: JobSettings) -> None:
        self.steps = Steps("learn", settings)

    def open(self, runtime_context: RuntimeContext) -> None:
        """Begin on a worker."""
        self.steps.begin(runtime_context)
        self.seen = runtime_context.get_map_state(
            MapStateDescriptor("seen", Types.STRING(), Types.LONG())
        )
        self.ring = runtime_context.get_map_state(
            MapStateDescriptor("ring", Types.LONG(), Types.STRING())
        )
        self.ends = runtime_context.get_state(ValueStateDescriptor("ends", STATE_BYTES))
        self.counts: dict[str, tuple[int, int]] = {}
        self.held: dict[str, dict[str, Emit]] = {}
        self.next_ms: dict[str, int] = {}

    def process_element(self, value: bytes, ctx: Any) -> Iterator[bytes]:
        """Take a record of the learning log."""
        record = self.steps.wire.record(value)
        outcome = _outcome_of(record)
        refused = None if outcome is None else self._again(record, outcome)
        if refused is not None:
            return self.steps.given_out(refused)
        timers = ctx.timer_service()
        emits = self.steps.arrived(record, timers, _NOTHING)
        # One that was put aside, since its loop is not configured yet, may be appended again.
        if outcome is not None and all(emit.stream != DEAD_LETTERS for emit in emits):
            self._note(record.key, outcome)
        return self.steps.given_out(self._coalesced(record, emits, timers))

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[bytes]:
        """Give out what was held back."""
        key = ctx.get_current_key()
        held = self.held.pop(key, None)
        if held is None:
            # A job that was started again in between holds nothing any more, but its state does.
            memory, armed_ms = self.steps.remembered(key)
            self.steps.cache[key] = (memory, armed_ms)
            emits = newest_snapshots(memory.state) if memory.state is not None else ()
        else:
            emits = tuple(held.values())
        self.next_ms[key] = timestamp + COALESCE_MS
        return self.steps.given_out(emits)

    def _again(self, record: RawRecord, outcome: OutcomeClosed) -> tuple[Emit, ...] | None:
        """Return what to give out for an outcome that is not to be learned; None: learn it."""
        if self.seen.contains(outcome.choice.decision_id):
            self.steps.counters.count("repeats")
            return ()
        _, evicted_ms = self._ends(record.key)
        if outcome.closed_at_ms > evicted_ms:
            return None
        error = (
            f"It closed at {outcome.closed_at_ms}, and ids of outcomes that closed by {evicted_ms} "
            "are remembered no more: it may have been learned before"
        )
        return (Emit(Aside(record, "too_old_to_learn", error), LATE, record.key),)

    def _note(self, key: str, outcome: OutcomeClosed) -> None:
        """Remember an outcome's id, and forget the oldest where there are too many."""
        count, evicted_ms = self._ends(key)
        place = count % REMEMBERED_OUTCOMES
        if count >= REMEMBERED_OUTCOMES:
            oldest = self.ring.get(place)
            evicted_ms = max(evicted_ms, self.seen.get(oldest))
            self.seen.remove(oldest)
        self.seen.put(outcome.choice.decision_id, outcome.closed_at_ms)
        self.ring.put(place, outcome.choice.decision_id)
        self.counts[key] = (count + 1, evicted_ms)
        packed = (count + 1).to_bytes(8, "big") + evicted_ms.to_bytes(8, "big", signed=True)
        self.ends.update(packed)

    def _ends(self, key: str) -> tuple[int, int]:
        """Return how many outcomes were taken, and when the last forgotten one closed, ms."""
        if key not in self.counts:
            packed = self.ends.value()
            if packed is None:
                return 0, -1
            count = int.from_bytes(packed[:8], "big")
            self.counts[key] = count, int.from_bytes(packed[8:], "big", signed=True)
        return self.counts[key]

    def _coalesced(self, record: RawRecord, emits: list[Emit], timers: Any) -> list[Emit]:
        """Hold back what may be replaced soon."""
        now: list[Emit] = []
        for emit in emits:
            if not callable(emit.value):
                now.append(emit)
            elif record.log_time_ms >= self.next_ms.get(record.key, 0):
                now.append(emit)
            else:
                self.held.setdefault(record.key, {})[emit.key or ""] = emit
                timers.register_event_time_timer(self.next_ms[record.key])
        given = {emit.key for emit in now if callable(emit.value)}
        if given:
            self.next_ms[record.key] = record.log_time_ms + COALESCE_MS
            held = self.held.get(record.key, {})
            self.held[record.key] = {key: emit for key, emit in held.items() if key not in given}
        return now


def _outcome_of(record: RawRecord) -> OutcomeClosed | None:
    """Return an outcome; None for anything else, which the operator itself takes or puts aside."""
    try:
        value = record.value
    except RecordError:
        return None
    return value if isinstance(value, OutcomeClosed) else None
