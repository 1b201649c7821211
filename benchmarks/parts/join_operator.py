"""The operator alone: the join's keys stepped by a plain loop, the same work without an engine.

The same class is what a stream processor without event time needs around `OneKey` (bytewax).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from benchmarks.parts.join_case import Given, Run, join_part
from connectors.logs import Row
from engines.one_key import Memory, OneKey, RawRecord, side_of
from pipelines.operators import Aside, Emit, Shared
from schemas.codec import encode
from schemas.streams import key_of

_NOTHING: Shared = {}


class LogOrder:
    """Many keys of the join, whose records come in the order of log time.

    Whatever stands before a later log time is complete. Durable is nothing.

    Parameters
    ----------
    packed : dict, optional
        What `pack` gave: memories as bytes, by key.
    """

    def __init__(self, packed: dict[str, bytes] | None = None) -> None:
        part = join_part()
        self._one = OneKey(part, part.inputs)
        self._memories: dict[str, Memory] = {}
        self._waiting: set[str] = set()
        self._timers: list[tuple[int, str]] = []
        self._now_ms = 0
        for key, data in (packed or {}).items():
            memory = self._memories[key] = self._one.unpack(key, data)
            if memory.waiting:
                self._waiting.add(key)
            if memory.wake_at_ms is not None:
                heapq.heappush(self._timers, (memory.wake_at_ms, key))

    def take(self, row: Row) -> list[Emit]:
        """Take a record or a Tick; return what became complete by it gave out."""
        _, stream, key, at_ms, value, partition = row
        emits: list[Emit] = []
        if at_ms > self._now_ms:
            self._now_ms = at_ms
            emits = self.complete(at_ms - 1)
        if stream != "ticks":
            memory = self._memories.get(key)
            if memory is None:
                memory = self._memories[key] = Memory()
            record = RawRecord(stream, key, at_ms, value, row.position, partition)
            memory.waiting.append(record)
            self._waiting.add(key)
        return emits

    def complete(self, through_ms: int) -> list[Emit]:
        """Step all keys through a log time: nothing at it or before it comes any more."""
        emits: list[Emit] = []
        for key in self._waiting:
            self._advance(key, through_ms, emits)
        self._waiting.clear()
        timers = self._timers
        while timers and timers[0][0] <= through_ms:
            at_ms, key = heapq.heappop(timers)
            memory = self._memories.get(key)
            # A timer that was set anew stands in the heap under its new time, too.
            if memory is not None and memory.wake_at_ms == at_ms:
                self._advance(key, through_ms, emits)
        return emits

    def pack(self) -> dict[str, bytes]:
        """Return all memories as bytes."""
        return {key: self._one.pack(memory) for key, memory in self._memories.items()}

    def _advance(self, key: str, through_ms: int, emits: list[Emit]) -> None:
        memory = self._memories[key]
        before_ms = memory.wake_at_ms
        emits += self._one.advance(memory, through_ms, _NOTHING)
        if memory.is_empty:
            del self._memories[key]
        elif memory.wake_at_ms is not None and memory.wake_at_ms != before_ms:
            heapq.heappush(self._timers, (memory.wake_at_ms, key))


def written(emits: Iterable[Emit]) -> Iterator[Given]:
    """Write down what was given out, as it would travel."""
    for emit in emits:
        value = emit.value
        if isinstance(value, Aside):
            value = side_of(value)
        yield emit.stream, emit.key or key_of(value, emit.stream), encode(value)


def _joined(keys: LogOrder, rows: list[Row]) -> list[Given]:
    given: list[Given] = []
    for row in rows:
        emits = keys.take(row)
        if emits:
            given += written(emits)
    given += written(keys.complete(rows[-1].log_time_ms))
    return given


def main() -> None:
    """Run it."""
    run = Run()
    keys = LogOrder()
    warm_up = _joined(keys, run.warm_up.rows)
    with run.measuring():
        measured = _joined(keys, run.measured.rows)
    run.answer(warm_up, measured)


if __name__ == "__main__":
    main()
