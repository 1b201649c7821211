"""The keyed operators as PyFlink functions: thin, since the order is made in engines/one_key.py.

A function owns its keys as long as it lives, so what it unpacked last it need not read again; the
bytes go into Flink's state with every change, which is what a checkpoint takes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pyflink.common import Types
from pyflink.common.typeinfo import TypeInformation
from pyflink.datastream.functions import (
    KeyedBroadcastProcessFunction,
    KeyedProcessFunction,
    RuntimeContext,
)
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from connectors.pictures import FolderPictures
from engines.flink.counting import Counting
from engines.flink.settings import JobSettings
from engines.flink.wire import Wire, envelope_of
from engines.one_key import (
    NEVER_MS,
    Memory,
    OneKey,
    RawRecord,
    dead_letter,
    part_named,
    refusal,
    reported_by,
    side_of,
)
from engines.shared_streams import SharedStreams
from pipelines.operators import Aside, Emit, Shared
from schemas.errors import PhoError
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


SHARED_STATE = MapStateDescriptor("shared", Types.STRING(), STATE_BYTES)


class SharingFunction(KeyedBroadcastProcessFunction):  # type: ignore[misc]
    """An operator that looks at shared streams: decide.

    Parameters
    ----------
    name : str
        The operator's name in the topology.
    settings : JobSettings
        What the job was told. Its `initial` records are the newest there were when it was
        submitted: the first visitor must not be decided for by a job that knows no loop yet. A
        picture in its folder `pictures` is deleted when its answer is read from the log.
    """

    def __init__(self, name: str, settings: JobSettings) -> None:
        self.steps = Steps(name, settings)
        self.folder = settings.pictures
        self.initial = tuple(
            envelope_of(RawRecord(stream, key, at_ms, bytes.fromhex(value), offset, partition))
            for stream, key, partition, offset, at_ms, value in settings.initial
        )

    def open(self, runtime_context: RuntimeContext) -> None:
        """Begin on a worker."""
        self.steps.begin(runtime_context)
        self.shared: SharedStreams | None = None
        self.through: dict[tuple[str, int], int] = {}
        self.reports = _is_first(runtime_context)
        self.pictures = FolderPictures(Path(self.folder)) if self.folder else None

    def process_element(self, value: bytes, ctx: Any) -> Iterator[bytes]:
        """Take a record."""
        if self.shared is None:
            self._restore(ctx)
        record = self.steps.wire.record(value)
        emits = self.steps.arrived(record, ctx.timer_service(), self._view)
        if self.pictures is not None:
            self._delete_picture(record)
        return self.steps.given_out(emits)

    def process_broadcast_element(self, value: Any, ctx: Any) -> Iterator[bytes]:
        """Take a record of a shared stream."""
        if self.shared is None:
            self._restore(ctx)
        envelope = value[1]
        record = self.steps.wire.record(envelope)
        refused = self._take(record)
        if refused is None:
            ctx.get_broadcast_state(SHARED_STATE).put(f"{record.stream}/{record.key}", envelope)
            return iter(())
        # Every instance reads every shared record; one of them says what is wrong with it.
        return self.steps.given_out(refused if self.reports else ())

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[bytes]:
        """Take a timer."""
        if self.shared is None:
            self._restore(ctx)
        key = ctx.get_current_key()
        emits = self.steps.woken(key, timestamp, ctx.timer_service(), self._view)
        return self.steps.given_out(emits)

    def _delete_picture(self, record: RawRecord) -> None:
        try:
            picture_id = getattr(record.value, "picture_id", None)
        except PhoError:
            return
        if picture_id and self.pictures is not None:
            self.pictures.delete(picture_id)

    @property
    def _view(self) -> Shared:
        assert self.shared is not None  # noqa: S101 - restored before any step
        return self.shared.view

    def _restore(self, ctx: Any) -> None:
        self.shared = SharedStreams(self.steps.one_key.part.broadcasts)
        kept = [bytes(envelope) for _, envelope in ctx.get_broadcast_state(SHARED_STATE).items()]
        # Both: what the job was told at its start is read again from the topic as a repeat, and so
        # never kept; without it a job started again would know what came later, and no loop.
        records = [self.steps.wire.record(envelope) for envelope in (*self.initial, *kept)]
        # The configurations of a loop in the order of their log: the last one holds.
        for record in sorted(records, key=lambda r: (r.stream, r.partition, r.offset)):
            self._take(record)

    def _take(self, record: RawRecord) -> tuple[Emit, ...] | None:
        """Return None for what is the newest now, nothing for what is not, else its dead letter."""
        assert self.shared is not None  # noqa: S101 - called after it was made
        place = (record.stream, record.partition)
        if record.offset <= self.through.get(place, -1):
            return ()
        self.through[place] = record.offset
        refused = refusal(record)
        if refused is not None:
            return (dead_letter(record, *refused),)
        self.shared.take(record)
        self.shared.superseded.clear()  # what an engine with a log of its own would delete there
        newest = self.shared.view[record.stream].values()
        return None if any(value is record.value for value in newest) else ()


def _is_first(context: RuntimeContext) -> bool:
    """Return whether this is the first of the parallel instances.

    `get_index_of_this_subtask` is broken in thread mode of 2.2: it asks for what Flink 2 moved.
    """
    inner = context._runtime_context  # noqa: SLF001
    return int(inner.getTaskInfo().getIndexOfThisSubtask()) == 0
