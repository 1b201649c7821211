"""The keyed operators as PyFlink functions: thin, since the order is made in engines/one_key.py.

A function owns its keys as long as it lives, so what it unpacked last it need not read again; the
bytes go into Flink's state with every change, which is what a checkpoint takes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from pyflink.common import Types
from pyflink.common.typeinfo import TypeInformation
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor

from engines.flink.counting import Counting
from engines.flink.loading import load
from engines.flink.settings import JobSettings
from engines.flink.wire import Wire
from engines.one_key import (
    NEVER_MS,
    Memory,
    OneKey,
    RawRecord,
    part_named,
    reported_by,
    side_of,
)
from pipelines.operators import Aside, Emit, Shared
from schemas.streams import key_of

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
"""Bytes between operators, and to the sink."""


class StateBytes(TypeInformation):  # type: ignore[misc]
    """Bytes in state, as they are.

    PyFlink takes the arrays that `BYTES` names apart into a tuple of numbers, and fails on a state
    that is not there; what it does not know it stores as the bytes it was given.
    """


STATE_BYTES = StateBytes()
CACHED_KEYS = 20_000
"""Memories kept unpacked; a million open windows stay as bytes in Flink's state."""
_NOTHING: Shared = {}


class Steps:
    """What the functions share: a key's memory between two calls, its timer, what it gave out."""

    def __init__(self, name: str, settings: JobSettings) -> None:
        self.name = name
        self.settings = settings

    def begin(self, context: RuntimeContext) -> None:
        """Make what must not travel with the function."""
        load(self.settings)
        self.wire = Wire(self.settings)
        self.one_key = OneKey(part_named(self.name), reported_by(self.name), self.wire.reads)
        descriptor = ValueStateDescriptor("memory", STATE_BYTES)
        self.kept = context.get_state(descriptor)
        self.cache: OrderedDict[str, tuple[Memory, int]] = OrderedDict()
        self.counters = Counting(context, self.name)

    def remembered(self, key: str) -> tuple[Memory, int]:
        """Return a key's memory and the time of the earliest timer set for it."""
        found = self.cache.pop(key, None)
        if found is not None:
            return found
        packed = self.kept.value()
        if packed is None:
            return Memory(), NEVER_MS
        armed_ms = int.from_bytes(packed[:8], "big")
        return self.one_key.unpack(key, bytes(packed[8:])), armed_ms

    def remember(self, key: str, memory: Memory, armed_ms: int, timers: Any) -> None:
        """Keep a key's memory, and have its timer called in time.

        One timer is set for the next time anything is due; an earlier one that was set before
        and is due no more finds nothing to do: to delete it would cost each step another call
        into the JVM.
        """
        packed = self.one_key.pack(memory)
        if not packed:
            self.kept.clear()
            return
        due_ms = memory.next_ms
        if due_ms < armed_ms:
            timers.register_event_time_timer(due_ms)
            armed_ms = due_ms
        self.kept.update(armed_ms.to_bytes(8, "big") + packed)
        self.cache[key] = (memory, armed_ms)
        if len(self.cache) > CACHED_KEYS:
            self.cache.popitem(last=False)

    def arrived(self, record: RawRecord, timers: Any, shared: Shared) -> list[Emit]:
        """Take a record; where several streams meet, `graph.in_order` has put them in order."""
        memory, armed_ms = self.remembered(record.key)
        emits = self.one_key.take(memory, record, shared)
        self.remember(record.key, memory, armed_ms, timers)
        self.counters.event()
        return emits

    def woken(self, key: str, at_ms: int, timers: Any, shared: Shared) -> list[Emit]:
        """Log time is complete through a time that a timer was set for."""
        self.counters.tick()
        memory, armed_ms = self.remembered(key)
        emits = self.one_key.advance(memory, at_ms, shared)
        self.remember(key, memory, NEVER_MS if armed_ms <= at_ms else armed_ms, timers)
        return emits

    def given_out(self, emits: Iterable[Emit]) -> Iterator[bytes]:
        """Write down what a step gave out; everything goes the main way, side outputs too."""
        for emit in emits:
            value = emit.value() if callable(emit.value) else emit.value
            if isinstance(value, Aside):
                value = side_of(value)
            self.counters.emitted(emit.stream)
            yield self.wire.emitted(emit.stream, emit.key or key_of(value, emit.stream), value)


class KeyedFunction(KeyedProcessFunction):  # type: ignore[misc]
    """An operator that looks at no shared stream: greet, join.

    Parameters
    ----------
    name : str
        The operator's name in the topology.
    settings : JobSettings
        What the job was told.
    """

    def __init__(self, name: str, settings: JobSettings) -> None:
        self.steps = Steps(name, settings)

    def open(self, runtime_context: RuntimeContext) -> None:
        """Begin on a worker."""
        self.steps.begin(runtime_context)

    def process_element(self, value: bytes, ctx: Any) -> Iterator[bytes]:
        """Take a record."""
        emits = self.steps.arrived(self.steps.wire.record(value), ctx.timer_service(), _NOTHING)
        return self.steps.given_out(emits)

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[bytes]:
        """Take a timer."""
        key = ctx.get_current_key()
        emits = self.steps.woken(key, timestamp, ctx.timer_service(), _NOTHING)
        return self.steps.given_out(emits)
