"""learn as a PyFlink function: each outcome once, one snapshot in 100 ms of log time at most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyflink.common import Types
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, MapStateDescriptor, ValueStateDescriptor

from engines.flink.functions import STATE_BYTES, Steps
from engines.flink.settings import JobSettings
from engines.one_key import Memory, RawRecord
from pipelines.learners import newest_snapshots
from pipelines.operators import Aside, Emit, Shared
from schemas.errors import RecordError
from schemas.outcomes import OutcomeClosed
from schemas.streams import DEAD_LETTERS, LATE

COALESCE_MS = 100
"""Log time between two snapshots of a policy: a reader of `policies` need not read each version."""
REMEMBERED_OUTCOMES = 262_144
"""Ids of outcomes that are remembered, so that a repeat is not learned twice."""
SNAPSHOT_EVERY = 64
"""Records in the tail; a restart learns so many again at most."""
_NOTHING: Shared = {}


@dataclass(slots=True)
class _Loop:
    """What one worker knows of one loop."""

    memory: Memory = field(default_factory=Memory)
    """What `learn` remembers."""
    count: int = 0
    """Outcomes whose ids were remembered so far."""
    evicted_ms: int = -1
    """When the newest outcome closed whose id is forgotten, ms."""
    tail_length: int = 0
    """Records in the tail."""
    held: dict[str, Emit] = field(default_factory=dict)
    """Snapshots held back, by their key."""
    next_ms: int = 0
    """Log time from which one is given out at once again, ms."""
    restored: bool = False
    """True: nothing was given out since the job started again."""

    def coalesced(self, record: RawRecord, emits: list[Emit], timers: Any) -> list[Emit]:
        """Hold back what may be replaced soon."""
        now: list[Emit] = []
        for emit in emits:
            if not callable(emit.value):
                now.append(emit)
            elif record.log_time_ms >= self.next_ms:
                now.append(emit)
                self.held.pop(emit.key or "", None)
            else:
                self.held[emit.key or ""] = emit
                timers.register_event_time_timer(self.next_ms)
        if any(callable(emit.value) for emit in now):
            self.next_ms = record.log_time_ms + COALESCE_MS
        return now


class LearnFunction(KeyedProcessFunction):  # type: ignore[misc]
    """Learn the outcomes of a loop in the order of their log.

    What a loop has learned is kept as a base and a tail of the records after it, learned again
    after a restart: packed after each outcome it would be a fifth of the time of learning it.

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
        self.base = self.steps.kept
        self.tail = runtime_context.get_list_state(ListStateDescriptor("tail", STATE_BYTES))
        self.seen = runtime_context.get_map_state(
            MapStateDescriptor("seen", Types.STRING(), Types.LONG())
        )
        self.ring = runtime_context.get_map_state(
            MapStateDescriptor("ring", Types.LONG(), Types.STRING())
        )
        self.evicted = runtime_context.get_state(ValueStateDescriptor("evicted_ms", Types.LONG()))
        self.loops: dict[str, _Loop] = {}

    def process_element(self, value: bytes, ctx: Any) -> Iterator[bytes]:
        """Take a record of the learning log."""
        record = self.steps.wire.record(value)
        loop = self._loop(record.key)
        outcome = _outcome_of(record)
        refused = None if outcome is None else self._again(loop, record, outcome)
        if refused is not None:
            return self.steps.given_out(refused)
        emits = self._learn(loop, record, outcome)
        loop.tail_length += 1
        if loop.tail_length < SNAPSHOT_EVERY:
            self.tail.add(value)
        else:
            self._keep(loop)
        self.steps.counters.event()
        return self.steps.given_out(loop.coalesced(record, emits, ctx.timer_service()))

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[bytes]:
        """Give out what was held back."""
        self.steps.counters.tick()
        loop = self._loop(ctx.get_current_key())
        emits = tuple(loop.held.values())
        if loop.restored:
            # A job that was started again holds nothing any more, but its state does.
            state = loop.memory.state
            emits = newest_snapshots(state) if state is not None else ()
        loop.held, loop.restored = {}, False
        loop.next_ms = timestamp + COALESCE_MS
        return self.steps.given_out(emits)

    def _loop(self, key: str) -> _Loop:
        """Return what is known of a loop, built again from its state after a restart."""
        loop = self.loops.get(key)
        if loop is None:
            loop = self.loops[key] = _Loop()
            packed = self.base.value()
            if packed is not None:
                loop.count = int.from_bytes(packed[:8], "big")
                loop.memory = self.steps.one_key.unpack(key, bytes(packed[8:]))
            evicted_ms = self.evicted.value()
            loop.evicted_ms = -1 if evicted_ms is None else evicted_ms
            for envelope in self.tail.get() or ():
                record = self.steps.wire.record(bytes(envelope))
                self._learn(loop, record, _outcome_of(record), noted=True)
                loop.tail_length += 1
            loop.restored = packed is not None or loop.tail_length > 0
        return loop

    def _learn(
        self, loop: _Loop, record: RawRecord, outcome: OutcomeClosed | None, *, noted: bool = False
    ) -> list[Emit]:
        emits = self.steps.one_key.take(loop.memory, record, _NOTHING)
        # One that was put aside, since its loop is not configured yet, may be appended again.
        if outcome is not None and all(emit.stream != DEAD_LETTERS for emit in emits):
            if noted:
                loop.count += 1
            else:
                self._note(loop, outcome)
        return emits

    def _keep(self, loop: _Loop) -> None:
        self.base.update(loop.count.to_bytes(8, "big") + self.steps.one_key.pack(loop.memory))
        self.tail.clear()
        loop.tail_length = 0

    def _again(
        self, loop: _Loop, record: RawRecord, outcome: OutcomeClosed
    ) -> tuple[Emit, ...] | None:
        """Return what to give out for an outcome that is not to be learned; None: learn it."""
        if self.seen.contains(outcome.choice.decision_id):
            self.steps.counters.count("repeats")
            return ()
        if outcome.closed_at_ms > loop.evicted_ms:
            return None
        error = (
            f"It closed at {outcome.closed_at_ms}, and ids of outcomes that closed by "
            f"{loop.evicted_ms} are remembered no more: it may have been learned before"
        )
        return (Emit(Aside(record, "too_old_to_learn", error), LATE, record.key),)

    def _note(self, loop: _Loop, outcome: OutcomeClosed) -> None:
        """Remember an outcome's id, and forget the oldest where there are too many."""
        place = loop.count % REMEMBERED_OUTCOMES
        if loop.count >= REMEMBERED_OUTCOMES:
            oldest = self.ring.get(place)
            loop.evicted_ms = max(loop.evicted_ms, self.seen.get(oldest))
            self.evicted.update(loop.evicted_ms)
            self.seen.remove(oldest)
        self.seen.put(outcome.choice.decision_id, outcome.closed_at_ms)
        self.ring.put(place, outcome.choice.decision_id)
        loop.count += 1


def _outcome_of(record: RawRecord) -> OutcomeClosed | None:
    """Return an outcome; None for anything else, which the operator itself takes or puts aside."""
    try:
        value = record.value
    except RecordError:
        return None
    return value if isinstance(value, OutcomeClosed) else None
