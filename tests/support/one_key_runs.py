"""One key at a time, as an engine that merges partitions by watermark gives it, and as it must be.

Records come partition by partition in any interleaving; log time is complete through a watermark
that never passes a record still to come; between any two steps a memory is taken apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from careful import careful
from engines import one_key as genuine
from join_scripts import Entry
from pipelines.operators import Aside, Dataflow, Emit, Shared
from pipelines.topology import greeting_loop
from runs import MemoryRun, feed, finish
from schemas.codec import encode
from schemas.operations import SideRecord
from schemas.streams import key_of

Said = tuple[str, str, bytes]
"""Stream, key and bytes of a record given out."""
Answer = tuple[list[Said], bytes | None]
"""What was given out for a key, in order, and its packed state at the end; None: forgotten."""


def keys_of(name: str, entries: list[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """Yield each key of an operator with its own log: its records, what is shared, all Ticks."""
    inputs = _part(greeting_loop(), name).inputs
    keys = {key_of(e.value, e.stream): None for e in entries if e.stream in inputs}
    for key in keys:
        yield (
            key,
            [e for e in entries if e.stream not in inputs or key_of(e.value, e.stream) == key],
        )


def reference(name: str, key: str, entries: list[Entry]) -> Answer:
    """Return what the memory engine makes of one key's log."""
    flow = greeting_loop().only(name)
    run = MemoryRun(flow, Path())
    feed(run, entries, [1] * len(entries))
    finish(run, entries)
    given = [
        _said(r.stream, r.key, r.value, run._fed.get)
        for r in run.engine.log
        if r.offset not in run._fed
    ]
    state, _ = run.engine.states[name].get(key, (None, None))
    return given, None if state is None else _part(flow, name).operator.pack(state)[0]


def stepped(
    name: str,
    key: str,
    entries: list[Entry],
    chance: Random,
    module: Any = genuine,
    flow: Dataflow | None = None,
) -> Answer:
    """Return what `OneKey` makes of one key's log.

    Parameters
    ----------
    name, key, entries
        The operator, the key, its log.
    chance : Random
        How partitions are woven together, when the watermark moves, when memories are packed.
    module : module
        Holds `OneKey`; tests that must fail give another.
    flow : Dataflow, optional
        Holds the operator; None: the greeting loop, each step run twice.
    """
    part = _part(flow or careful(greeting_loop()), name)
    one = module.OneKey(part, part.inputs)
    shared: Shared = {
        b.stream: {b.key(e.value): e.value for e in entries if e.stream == b.stream}
        for b in part.broadcasts
    }
    lanes = [
        [
            module.RawRecord(stream, key, e.log_time_ms, encode(e.value), place, partition)
            for place, e in enumerate(entries)
            if e.stream == stream
        ]
        for partition, stream in enumerate(part.inputs)
    ]
    end_ms = entries[-1].log_time_ms - 1
    memory, given, watermark_ms = one.unpack(key, b""), [], -1
    while any(lanes) or watermark_ms < end_ms:
        if chance.random() < 0.3:
            memory = one.unpack(key, one.pack(memory))
        complete_ms = min((lane[0].log_time_ms - 1 for lane in lanes if lane), default=end_ms)
        if any(lanes) and chance.random() < 0.6:
            record = chance.choice([lane for lane in lanes if lane]).pop(0)
            if one.merges:
                memory.waiting.append(record)
                continue
            given += one.take(memory, record, shared)
        elif complete_ms > watermark_ms:
            watermark_ms = _some_time(chance, watermark_ms + 1, complete_ms, memory.next_ms)
            given += one.advance(memory, watermark_ms, shared)
            assert memory.next_ms > watermark_ms, "something is due that was to be done"
    assert not memory.waiting
    packed = one.pack(memory)
    assert bool(packed) == (memory.state is not None), "a key is remembered that is forgotten"
    state = None if memory.state is None else part.operator.pack(memory.state)[0]
    return [_emitted(emit) for emit in given], state


def smallest_quarrel(name: str, entries: list[Entry]) -> list[Entry]:
    """Return the fewest records of a log over which `OneKey` and the reference quarrel; or none."""
    if not _quarrel(name, entries):
        return []
    place = 0
    while place < len(entries):
        fewer = entries[:place] + entries[place + 1 :]
        # The last Tick says how far the log goes.
        if fewer and fewer[-1] == entries[-1] and _quarrel(name, fewer):
            entries = fewer
        else:
            place += 1
    return entries


def _quarrel(name: str, entries: list[Entry]) -> bool:
    for key, its_entries in keys_of(name, entries):
        wanted = reference(name, key, its_entries)
        try:
            if any(stepped(name, key, its_entries, Random(i)) != wanted for i in range(10)):  # noqa: S311
                return True
        except AssertionError:
            return True
    return False


def _part(flow: Dataflow, name: str) -> Any:
    return next(part for part in flow.keyed if part.name == name)


def _some_time(chance: Random, low_ms: int, high_ms: int, due_ms: int) -> int:
    """Return a time the watermark may move to, often one where `<` and `<=` differ."""
    edges = [at_ms for at_ms in (due_ms - 1, due_ms, due_ms + 1) if low_ms <= at_ms <= high_ms]
    return chance.choice([high_ms, chance.randint(low_ms, high_ms), *edges])


def _emitted(emit: Emit) -> Said:
    value = emit.value() if callable(emit.value) else emit.value
    if isinstance(value, Aside):
        value = genuine.side_of(value)
    return _said(emit.stream, emit.key or key_of(value, emit.stream), value, lambda place: place)


def _said(stream: str, key: str, value: Any, place_of: Any) -> Said:
    if isinstance(value, SideRecord):
        value = replace(value, offset=place_of(value.offset), partition=0)
    return stream, key, encode(value)
