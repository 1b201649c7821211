"""The operator contract: what an engine gives an operator, and what it gets back.

A keyed operator is pure: no clock, no chance, no input or output, no logging, and it never changes
the state it was given. So an engine may run a step twice, replay it after a crash, or run it on
another machine, and nobody can tell the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

S = TypeVar("S")

Shared = Mapping[str, Mapping[str, Any]]
"""The broadcast streams, read-only: stream name, then key, to the newest record of that key."""


class Record:
    """One record of the log as an operator sees it.

    Parameters
    ----------
    stream : str
        The stream it stands in.
    key : str
        Its key.
    log_time_ms : int
        Given by the log at append, ms since 1970 UTC; never goes back within a partition.
    value : any of our records, or a function that reads it
        A function is called once, when `value` is first asked for: an engine that holds a million
        open windows keeps places, not values.
    offset : int
        Place in the partition.
    partition : int
        The partition; the embedded log has one.
    """

    __slots__ = ("_value", "key", "log_time_ms", "offset", "partition", "stream")

    def __init__(
        self,
        stream: str,
        key: str,
        log_time_ms: int,
        value: Any,
        offset: int = -1,
        partition: int = 0,
    ) -> None:
        self.stream = stream
        self.key = key
        self.log_time_ms = log_time_ms
        self._value = value
        self.offset = offset
        self.partition = partition

    @property
    def value(self) -> Any:
        """The record itself."""
        if callable(self._value):
            self._value = self._value()
        return self._value

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Record)
            and self.stream == other.stream
            and self.key == other.key
            and self.log_time_ms == other.log_time_ms
            and self.value == other.value
        )

    def __hash__(self) -> int:
        return hash((self.stream, self.key, self.log_time_ms))

    def __repr__(self) -> str:
        return f"Record({self.stream}[{self.offset}] {self.key} at {self.log_time_ms})"


@dataclass(frozen=True, slots=True)
class Aside:
    """A record that leaves the main way; the engine adds its bytes and its place."""

    record: Record
    """The record."""
    reason: str
    """Short and stable, for counting."""
    error: str
    """For a person to read; says what to do."""


@dataclass(frozen=True, slots=True)
class Emit:
    """Something an operator gives out."""

    value: Any
    """One of our records; an `Aside` for a side output; or, on a stream marked `coalesce`, a
    function that makes the record, called only for the newest of its key in a batch."""
    stream: str
    """The stream, or side output, it goes to."""
    key: str | None = None
    """Its key; None: as the record says. Must be given with a function."""


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """What one step of a keyed operator did."""

    state: S | None
    """The state from now on; None: forget the key."""
    emits: tuple[Emit, ...] = ()
    """What it gave out, in order."""
    wake_at_ms: int | None = None
    """One timer per key, in log time, replacing the one before; None: no timer."""


class KeyedOperator(Protocol[S]):
    """Logic with a memory for each key.

    The engine brings each key's records in the order (log time, place of the stream among the
    operator's inputs, place in the partition); a timer at t fires after every record with log
    time <= t and before every later one.
    """

    def on_event(self, state: S | None, record: Record, shared: Shared) -> Step[S]:
        """Take one record of the key."""
        ...

    def on_timer(self, state: S | None, log_time_ms: int, shared: Shared) -> Step[S]:
        """Take the key's timer; it may outlive the state it was set for."""
        ...

    def pack(self, state: S) -> tuple[bytes, tuple[Record, ...]]:
        """Take a state apart into bytes and the records it holds, which an engine keeps its way."""
        ...

    def unpack(self, data: bytes, records: tuple[Record, ...]) -> S:
        """Put a state together again; the opposite of `pack`."""
        ...


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A stream whose newest records every key may look at."""

    stream: str
    """Its name."""
    key: Callable[[Any], str]
    """The key under which operators look a record up."""
    newer: Callable[[Any, Any], bool]
    """Whether the second record replaces the first."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """A keyed operator in its place."""

    name: str
    """Names its state for ever: renaming it loses what it remembers."""
    operator: KeyedOperator[Any]
    """The logic."""
    inputs: tuple[str, ...]
    """The streams it reads; their order decides between records of the same log time."""
    outputs: tuple[str, ...]
    """The streams it writes, side outputs aside."""
    broadcasts: tuple[Broadcast, ...] = ()
    """The shared streams it may look at."""


@dataclass(frozen=True, slots=True)
class Asynchronous:
    """A call to the outside for each record, in its place; what is called, the engine is given."""

    name: str
    """Names what is in flight for ever."""
    input: str
    """The stream it reads."""
    output: str
    """The stream its answers go to."""
    concurrency: int
    """Calls in flight at the most; more records wait in the log."""
    time_limit_ms: int
    """One call may take this long."""
    tries: int
    """Calls for one record at the most."""


@dataclass(frozen=True, slots=True)
class Dataflow:
    """A topology as data: engines interpret it."""

    name: str
    """Its name."""
    operators: tuple[Keyed | Asynchronous, ...]
    """The operators in the order of the flow."""
    coalesced: frozenset[str] = frozenset()
    """Streams of which an engine may keep only the newest record of a key in a batch."""

    def only(self, *names: str) -> Dataflow:
        """Return the same dataflow with some of its operators."""
        chosen = tuple(operator for operator in self.operators if operator.name in names)
        return Dataflow("+".join(names), chosen, self.coalesced)

    def asynchronous(self, name: str) -> Asynchronous:
        """Return the asynchronous operator of a name."""
        parts = (part for part in self.operators if isinstance(part, Asynchronous))
        return next(part for part in parts if part.name == name)

    @property
    def keyed(self) -> tuple[Keyed, ...]:
        """The keyed operators."""
        return tuple(part for part in self.operators if isinstance(part, Keyed))

    @property
    def broadcasts(self) -> tuple[Broadcast, ...]:
        """The shared streams, each once."""
        found = {shared.stream: shared for part in self.keyed for shared in part.broadcasts}
        return tuple(found.values())
