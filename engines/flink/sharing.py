"""Operators that look at shared streams: Flink's broadcast state, and `decide` beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyflink.common import Types
from pyflink.datastream.functions import KeyedBroadcastProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor

from connectors.pictures import PictureStore
from engines.flink.functions import STATE_BYTES, Steps
from engines.flink.settings import JobSettings
from engines.flink.wire import Wire, envelope_of
from engines.one_key import RawRecord, dead_letter, refusal
from engines.services import open_pictures
from engines.shared_streams import SharedStreams
from pipelines.operators import Broadcast, Emit, Shared
from schemas.errors import PhoError

_FLUSHED_WITHIN_S = 5.0  # while S3 does not answer, a job that is started again must not wait long
SHARED_STATE = MapStateDescriptor("shared", Types.STRING(), STATE_BYTES)


class SharedView:
    """What the shared streams say now, as one instance of an operator reads them.

    Parameters
    ----------
    broadcasts : tuple of Broadcast
        The streams.
    settings : JobSettings
        What the job was told. Its `initial` records are the newest there were when it was
        submitted: the first visitor must not be decided for by a job that knows no loop yet.
    wire : Wire
        Reads records.
    """

    def __init__(
        self, broadcasts: tuple[Broadcast, ...], settings: JobSettings, wire: Wire
    ) -> None:
        self._streams = SharedStreams(broadcasts)
        self._wire = wire
        self._through: dict[tuple[str, int], int] = {}
        self._initial = tuple(
            envelope_of(RawRecord(stream, key, at_ms, bytes.fromhex(value), offset, partition))
            for stream, key, partition, offset, at_ms, value in settings.initial
            if stream in self._streams.streams
        )
        self._restored = False

    def look(self, ctx: Any) -> Shared:
        """Return the newest records; the first look reads what a checkpoint kept."""
        if not self._restored:
            self._restore(ctx)
        return self._streams.view

    def take(self, envelope: bytes, ctx: Any) -> tuple[Emit, ...]:
        """Take a record; return the dead letter of one that cannot be read."""
        self.look(ctx)
        record = self._wire.record(envelope)
        refused = self._take(record)
        if refused is None:
            ctx.get_broadcast_state(SHARED_STATE).put(f"{record.stream}/{record.key}", envelope)
            return ()
        return refused

    def _restore(self, ctx: Any) -> None:
        self._restored = True
        kept = [bytes(envelope) for _, envelope in ctx.get_broadcast_state(SHARED_STATE).items()]
        # Both: what the job was told at its start is read again from the topic as a repeat, and so
        # never kept; without it a job started again would know what came later, and no loop.
        records = [self._wire.record(envelope) for envelope in (*self._initial, *kept)]
        # The configurations of a loop in the order of their log: the last one holds.
        for record in sorted(records, key=lambda r: (r.stream, r.partition, r.offset)):
            self._take(record)

    def _take(self, record: RawRecord) -> tuple[Emit, ...] | None:
        """Return None for what is the newest now, nothing for what is not, else its dead letter."""
        place = (record.stream, record.partition)
        if record.offset <= self._through.get(place, -1):
            return ()
        self._through[place] = record.offset
        refused = refusal(record)
        if refused is not None:
            return (dead_letter(record, *refused),)
        self._streams.take(record)
        self._streams.superseded.clear()  # what an engine with a log of its own would delete there
        newest = self._streams.view[record.stream].values()
        return None if any(value is record.value for value in newest) else ()


class SharingFunction(KeyedBroadcastProcessFunction):  # type: ignore[misc]
    """An operator that looks at shared streams: decide.

    Parameters
    ----------
    name : str
        The operator's name in the topology.
    settings : JobSettings
        What the job was told. A picture in its picture store is deleted when its answer is read
        from the log.
    """

    pictures: PictureStore | None = None

    def __init__(self, name: str, settings: JobSettings) -> None:
        self.steps = Steps(name, settings)

    def open(self, runtime_context: RuntimeContext) -> None:
        """Begin on a worker."""
        steps = self.steps
        steps.begin(runtime_context)
        self.shared = SharedView(steps.one_key.part.broadcasts, steps.settings, steps.wire)
        self.reports = _is_first(runtime_context)
        services = steps.settings.services
        self.pictures = open_pictures(services) if services.have_pictures else None

    def process_element(self, value: bytes, ctx: Any) -> Iterator[bytes]:
        """Take a record."""
        record = self.steps.wire.record(value)
        emits = self.steps.arrived(record, ctx.timer_service(), self.shared.look(ctx))
        if self.pictures is not None:
            self._delete_picture(record)
        return self.steps.given_out(emits)

    def close(self) -> None:
        """End; the sweep takes what a store that deletes in the background did not get to."""
        if self.pictures is not None:
            self.pictures.flush(_FLUSHED_WITHIN_S)

    def process_broadcast_element(self, value: Any, ctx: Any) -> Iterator[bytes]:
        """Take a record of a shared stream."""
        refused = self.shared.take(value[1], ctx)
        # Every instance reads every shared record; one of them says what is wrong with it.
        return self.steps.given_out(refused if self.reports else ())

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[bytes]:
        """Take a timer."""
        key, shared = ctx.get_current_key(), self.shared.look(ctx)
        emits = self.steps.woken(key, timestamp, ctx.timer_service(), shared)
        return self.steps.given_out(emits)

    def _delete_picture(self, record: RawRecord) -> None:
        try:
            picture_id = getattr(record.value, "picture_id", None)
        except PhoError:
            return
        if picture_id and self.pictures is not None:
            self.pictures.delete(picture_id)


def _is_first(context: RuntimeContext) -> bool:
    """Return whether this is the first of the parallel instances.

    `get_index_of_this_subtask` is broken in thread mode of 2.2: it asks for what Flink 2 moved.
    """
    inner = context._runtime_context  # noqa: SLF001
    return int(inner.getTaskInfo().getIndexOfThisSubtask()) == 0
