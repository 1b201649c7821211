"""The memory engine: the reference. One record at a time, in the order the contract asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipelines.operators import Aside, Asynchronous, Dataflow, Keyed, Record, Step
from schemas.codec import encode
from schemas.operations import SideRecord
from schemas.streams import key_of

Answer = Callable[[Record, dict[str, dict[str, Any]]], Any]
"""Answers one record of an asynchronous operator, given the shared streams."""


class MemoryEngine:
    """Run a dataflow over a log kept in a list.

    Parameters
    ----------
    dataflow : Dataflow
        What to run.
    answer : callable, optional
        Stands behind the asynchronous operators.
    """

    def __init__(self, dataflow: Dataflow, answer: Answer | None = None) -> None:
        self.dataflow = dataflow
        self.answer = answer
        self.now_ms = 0
        self.log: list[Record] = []
        self.shared: dict[str, dict[str, Any]] = {b.stream: {} for b in dataflow.broadcasts}
        self.states: dict[str, dict[str, tuple[Any, int | None]]] = {
            part.name: {} for part in dataflow.keyed
        }
        self._read = 0
        self._merged = {part.name: 0 for part in dataflow.keyed if len(part.inputs) > 1}

    def append(self, stream: str, value: Any, at_ms: int | None = None) -> None:
        """Append a record at a log time, now where none is given, and never before now."""
        self.advance(max(at_ms or 0, self.now_ms))
        self._append(stream, key_of(value, stream), value)

    def advance(self, now_ms: int) -> None:
        """Let log time pass: whatever stands below it is complete."""
        self.now_ms = now_ms
        self.run()

    def run(self) -> None:
        """Run until nothing more happens at this log time."""
        progress = True
        while progress:
            progress = False
            if self._read < len(self.log):
                record = self.log[self._read]
                self._read += 1
                self._take(record)
                progress = True
            for part in self.dataflow.keyed:
                if part.name in self._merged:
                    progress |= self._merge(part)

    def _take(self, record: Record) -> None:
        for broadcast in self.dataflow.broadcasts:
            if broadcast.stream == record.stream:
                known, key = self.shared[record.stream], broadcast.key(record.value)
                if key not in known or broadcast.newer(known[key], record.value):
                    known[key] = record.value
        for part in self.dataflow.operators:
            if isinstance(part, Asynchronous):
                if part.input == record.stream and self.answer is not None:
                    value = self.answer(record, self.shared)
                    self._append(part.output, key_of(value, part.output), value)
            elif part.name not in self._merged:
                self._fire(part, record.log_time_ms)
                if record.stream in part.inputs:
                    self._event(part, record)

    def _merge(self, part: Keyed) -> bool:
        """Take, in the contract's order, all records below now: they are complete."""
        start = self._merged[part.name]
        batch = []
        for record in self.log[start : self._read]:
            if record.log_time_ms >= self.now_ms:
                break
            batch.append(record)
        self._merged[part.name] += len(batch)
        place = {stream: number for number, stream in enumerate(part.inputs)}
        batch.sort(key=lambda r: (r.log_time_ms, place.get(r.stream, len(place)), r.offset))
        for record in batch:
            self._fire(part, record.log_time_ms)
            if record.stream in place:
                self._event(part, record)
        return bool(batch)

    def _event(self, part: Keyed, record: Record) -> None:
        state, _ = self.states[part.name].get(record.key, (None, None))
        self._done(part, record.key, part.operator.on_event(state, record, self.shared))

    def _fire(self, part: Keyed, before_ms: int) -> None:
        states = self.states[part.name]
        while due := [
            (wake, key)
            for key, (_, wake) in states.items()
            if wake is not None and wake < before_ms
        ]:
            wake, key = min(due)
            self._done(part, key, part.operator.on_timer(states[key][0], wake, self.shared))

    def _done(self, part: Keyed, key: str, step: Step[Any]) -> None:
        if step.state is None:
            self.states[part.name].pop(key, None)
        else:
            self.states[part.name][key] = (step.state, step.wake_at_ms)
        for emit in step.emits:
            value = emit.value() if callable(emit.value) else emit.value
            if isinstance(value, Aside):
                value = side_record(value, encode(value.record.value))
            self._append(emit.stream, emit.key or key_of(value, emit.stream), value)

    def _append(self, stream: str, key: str, value: Any) -> None:
        self.log.append(Record(stream, key, self.now_ms, value, len(self.log) + 1))


def side_record(aside: Aside, raw: bytes) -> SideRecord:
    """Write down a record that left the main way, with its bytes and its place."""
    record = aside.record
    return SideRecord(
        aside.reason,
        aside.error,
        record.stream,
        record.partition,
        record.offset,
        record.log_time_ms,
        record.key,
        raw,
    )
