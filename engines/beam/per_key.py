"""One keyed operator over a finished stretch of log, key by key, as the contract orders it.

Pure: no Beam in here. What an engine that follows the log live gives out for a key is a function of
that key's records, of their log times, and of how far the log is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from connectors.logs import Row
from engines.one_key import Memory, OneKey, RawRecord, side_of
from pipelines.operators import Aside, Emit, Keyed, Shared
from schemas.codec import encode, released
from schemas.streams import key_of

Ordered = tuple[str, int, int, int, int, bytes]
"""A row as it is sorted: key, log time (ms), place of its stream among the operator's inputs,
partition, position; last its bytes, which are never compared."""

_TICKS = tuple(header for header, entry in released().items() if entry.name == "Tick")
_NOTHING_SHARED: Shared = {}


class Given(NamedTuple):
    """Something an operator gave out."""

    stream: str
    """The stream, or side output."""
    key: str
    """Its key."""
    log_time_ms: int
    """Log time of the record or timer that brought it, ms; live it stands in the log from then on,
    as soon as the job has come so far."""
    value: bytes
    """Its bytes."""


def ordered(part: Keyed, row: Row) -> Ordered | None:
    """Return a row as it is sorted; None: a Tick, which is nobody's record."""
    if row.value.startswith(_TICKS):
        return None
    place = part.inputs.index(row.stream)
    return row.key, row.log_time_ms, place, row.partition, row.position, row.value


def run_keys(part: Keyed, rows: list[Ordered], complete_through_ms: int) -> Iterator[Given]:
    """Run an operator over all rows of some keys.

    Parameters
    ----------
    part : Keyed
        The operator; it looks at no shared stream.
    rows : list of Ordered
        All rows of these keys, in any order; sorted in place.
    complete_through_ms : int
        The log is complete below this time: later rows are left out, and timers from it on do not
        fire, for a record that comes before them may be missing.

    Yields
    ------
    Given
        Key by key; of coalesced snapshots only the newest of each key.
    """
    one = OneKey(part, part.inputs)
    rows.sort(key=itemgetter(0, 1, 2, 3, 4))
    for key, its_rows in groupby(rows, key=itemgetter(0)):
        yield from _run_key(one, key, its_rows, complete_through_ms)


def _run_key(
    one: OneKey, key: str, rows: Iterable[Ordered], complete_through_ms: int
) -> Iterator[Given]:
    memory = Memory()
    coalesced: dict[tuple[str, str], tuple[Emit, int]] = {}
    for _, log_time_ms, place, partition, position, raw in rows:
        if log_time_ms > complete_through_ms:
            break
        # Its timers one by one: what each gave out has the timer's own time.
        while memory.wake_at_ms is not None and memory.wake_at_ms < log_time_ms:
            yield from _fired(one, memory, coalesced)
        stream = one.part.inputs[place]
        record = RawRecord(stream, key, log_time_ms, raw, position, partition)
        emits = one.take(memory, record, _NOTHING_SHARED)
        if emits:
            yield from _given(emits, log_time_ms, coalesced)
    while memory.wake_at_ms is not None and memory.wake_at_ms < complete_through_ms:
        yield from _fired(one, memory, coalesced)
    for emit, at_ms in coalesced.values():
        value = emit.value()
        yield Given(emit.stream, emit.key or key_of(value, emit.stream), at_ms, encode(value))


def _fired(
    one: OneKey, memory: Memory, coalesced: dict[tuple[str, str], tuple[Emit, int]]
) -> Iterator[Given]:
    at_ms = memory.wake_at_ms or 0
    return _given(one.advance(memory, at_ms, _NOTHING_SHARED), at_ms, coalesced)


def _given(
    emits: list[Emit], at_ms: int, coalesced: dict[tuple[str, str], tuple[Emit, int]]
) -> Iterator[Given]:
    for emit in emits:
        value = emit.value
        if callable(value):
            coalesced[emit.stream, emit.key or ""] = (emit, at_ms)
            continue
        if isinstance(value, Aside):
            value = side_of(value)
        key = emit.key or key_of(value, emit.stream)
        yield Given(emit.stream, key, at_ms, encode(value))
