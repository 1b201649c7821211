"""One key of one keyed operator, stepped in the contract's order: no engine, no file, no clock.

An engine that knows for each key only "these records came" and "log time is complete through t"
(Flink, whose watermark says so; Beam, which has all of a key at once) gets the order from here:
(log time, place of the stream, place in the partition), and a timer at t after every record with
log time <= t and before every later one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from engines.memory import side_record
from pipelines.operators import Aside, Emit, Keyed, Record, Shared, Step
from pipelines.topology import greeting_loop
from schemas.codec import decode
from schemas.errors import PhoError, RecordError, ResourceError
from schemas.operations import SideRecord
from schemas.streams import DEAD_LETTERS, STREAMS, key_of

NEVER_MS = 2**62


Read = Callable[[bytes], Any]
"""Makes a record of its bytes, or raises a `RecordError`."""


class RawRecord(Record):
    """A record with the bytes it stands in the log with; they are read when first asked for."""

    __slots__ = ("_reads", "raw")

    def __init__(
        self,
        stream: str,
        key: str,
        log_time_ms: int,
        raw: bytes,
        offset: int,
        partition: int,
        reads: Read = decode,
    ) -> None:
        super().__init__(stream, key, log_time_ms, self._read, offset, partition)
        self.raw = raw
        self._reads = reads

    def _read(self) -> Any:
        return self._reads(self.raw)


@dataclass(slots=True)
class Memory:
    """What is remembered of one key."""

    state: Any = None
    """The operator's state; None: none."""
    wake_at_ms: int | None = None
    """Its timer, log time, ms."""
    waiting: list[RawRecord] = field(default_factory=list)
    """Records whose log time is not complete yet."""

    @property
    def is_empty(self) -> bool:
        """Whether the key is forgotten."""
        return self.state is None and not self.waiting

    @property
    def next_ms(self) -> int:
        """The log time at which something is due, ms; `NEVER_MS`: nothing is."""
        due_ms = min((record.log_time_ms for record in self.waiting), default=NEVER_MS)
        return due_ms if self.wake_at_ms is None else min(due_ms, self.wake_at_ms)


class OneKey:
    """Steps the keys of one operator.

    Parameters
    ----------
    part : Keyed
        The operator in its place.
    reports : iterable of str
        The streams whose unreadable records become dead letters here: where two operators read
        one stream, one of them says so.
    reads : callable
        Makes a record of its bytes.
    """

    def __init__(self, part: Keyed, reports: Iterable[str], reads: Read = decode) -> None:
        self.part = part
        self._reads = reads
        self.merges = len(part.inputs) > 1
        """Whether records must wait until their log time is complete."""
        self._place = {stream: number for number, stream in enumerate(part.inputs)}
        self._reports = frozenset(reports)
        self._pack = msgspec.msgpack.Encoder().encode
        self._unpack = msgspec.msgpack.Decoder().decode

    # Steps

    def take(self, memory: Memory, record: RawRecord, shared: Shared) -> list[Emit]:
        """Take a record of an operator with one input at once, its timers before it."""
        emits = self._fire(memory, record.log_time_ms - 1, shared)
        self._event(memory, record, shared, emits)
        return emits

    def advance(self, memory: Memory, through_ms: int, shared: Shared) -> list[Emit]:
        """Take what is complete: no record with this log time or an earlier one comes any more."""
        waiting = memory.waiting
        emits: list[Emit] = []
        if waiting:
            place = self._place
            if len(waiting) > 1:
                waiting.sort(key=lambda r: (r.log_time_ms, place[r.stream], r.partition, r.offset))
            count = 0
            for record in waiting:
                if record.log_time_ms > through_ms:
                    break
                if memory.wake_at_ms is not None and memory.wake_at_ms < record.log_time_ms:
                    emits += self._fire(memory, record.log_time_ms - 1, shared)
                self._event(memory, record, shared, emits)
                count += 1
            del waiting[:count]
        if memory.wake_at_ms is not None and memory.wake_at_ms <= through_ms:
            emits += self._fire(memory, through_ms, shared)
        return emits

    def _fire(self, memory: Memory, through_ms: int, shared: Shared) -> list[Emit]:
        emits: list[Emit] = []
        while memory.wake_at_ms is not None and memory.wake_at_ms <= through_ms:
            step = self.part.operator.on_timer(memory.state, memory.wake_at_ms, shared)
            _done(memory, step, emits)
        return emits

    def _event(self, memory: Memory, record: RawRecord, shared: Shared, emits: list[Emit]) -> None:
        refused = refusal(record)
        if refused is None:
            try:
                _done(memory, self.part.operator.on_event(memory.state, record, shared), emits)
            except ResourceError:
                raise  # a registry that is away is no fault of the record: the engine tries again
            except (PhoError, ValueError, ArithmeticError, LookupError) as error:
                text = f"{self.part.name} cannot take it: {type(error).__name__}: {error}"
                emits.append(dead_letter(record, "poison", text))
        elif record.stream in self._reports:
            emits.append(dead_letter(record, *refused))

    # Bytes

    def pack(self, memory: Memory) -> bytes:
        """Return a memory as bytes; empty bytes stand for a key that is forgotten."""
        if memory.is_empty:
            return b""
        data: bytes = b""
        records: tuple[Record, ...] = ()
        if memory.state is not None:
            data, records = self.part.operator.pack(memory.state)
        return self._pack(
            (
                memory.state is not None,
                memory.wake_at_ms,
                data,
                [self._packed(record) for record in records],
                [self._packed(record) for record in memory.waiting],
            )
        )

    def unpack(self, key: str, packed: bytes) -> Memory:
        """Return a memory from its bytes."""
        if not packed:
            return Memory()
        has_state, wake_at_ms, data, records, waiting = self._unpack(packed)
        state = None
        if has_state:
            held = tuple(self._unpacked(key, record) for record in records)
            state = self.part.operator.unpack(data, held)
        return Memory(state, wake_at_ms, [self._unpacked(key, record) for record in waiting])

    def _packed(self, record: Record) -> tuple[int, int, int, int, bytes]:
        raw: bytes = record.raw  # type: ignore[attr-defined]
        place = self._place[record.stream]
        return place, record.partition, record.offset, record.log_time_ms, raw

    def _unpacked(self, key: str, packed: list[Any]) -> RawRecord:
        place, partition, offset, log_time_ms, raw = packed
        stream = self.part.inputs[place]
        return RawRecord(stream, key, log_time_ms, raw, offset, partition, self._reads)


def side_of(aside: Aside) -> SideRecord:
    """Write down a record that left the main way, with its bytes."""
    raw: bytes = aside.record.raw  # type: ignore[attr-defined]
    return side_record(aside, raw)


def _done(memory: Memory, step: Step[Any], emits: list[Emit]) -> None:
    memory.state = step.state
    memory.wake_at_ms = step.wake_at_ms if step.state is not None else None
    emits.extend(step.emits)


def refusal(record: RawRecord) -> tuple[str, str] | None:
    """Return why a record cannot be taken, reason and error; None: it can."""
    try:
        value = record.value
    except RecordError as refused:
        return type(refused).__name__, str(refused)
    return misplaced(value, record.stream, record.key)


def misplaced(value: Any, stream: str, key: str) -> tuple[str, str] | None:
    """Return why what was read does not belong where it stands, reason and error; None: it does.

    Parameters
    ----------
    value : any of our records
        What was read.
    stream, key : str
        Where it stands.
    """
    if not isinstance(value, STREAMS[stream].records):
        return "WrongRecord", f"a {type(value).__name__} does not belong in {stream!r}"
    wanted = key_of(value, stream)
    if wanted != key:
        return (
            "WrongKey",
            f"its key is {key!r} and must be {wanted!r}, or records of one key lie in two "
            "partitions; mend its producer",
        )
    return None


def dead_letter(record: RawRecord, reason: str, error: str) -> Emit:
    """Put a record aside, whole."""
    return Emit(side_of(Aside(record, reason, error)), DEAD_LETTERS, record.key)


def part_named(name: str) -> Keyed:
    """Return an operator of the greeting loop in its place."""
    return next(part for part in greeting_loop().keyed if part.name == name)


def reported_by(name: str) -> tuple[str, ...]:
    """Return the streams whose unreadable records an operator reports: it is their first reader."""
    claimed: set[str] = set()
    for part in greeting_loop().keyed:
        mine = tuple(stream for stream in part.inputs if stream not in claimed)
        if part.name == name:
            return mine
        claimed.update(mine)
    return ()
