"""What keyed operators remember: packed bytes for each key, objects only for those in use.

State lives in memory; what changed in a batch becomes one appended row of the file. A row per key
would dirty a page per key, which costs 2 to 5 times as much and grows with the keys that are open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from engines.timers import Timers
from pipelines.operators import Keyed, Record, Shared, Step

_HOT_MAX = 3_000
"""States kept as objects, a few KB each; the others are some hundred bytes."""
_NO_WAKE = (0).to_bytes(8, "big")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode

LoadValue = Callable[[int], Any]
"""Reads the record at a position of the log."""


class _Hot(NamedTuple):
    state: Any
    wake_at_ms: int | None


class StateStore:
    """The states and timers of one keyed operator.

    Parameters
    ----------
    part : Keyed
        The operator in its place.
    load_value : callable
        Reads a record that a state holds, when somebody looks at it.
    """

    def __init__(self, part: Keyed, load_value: LoadValue) -> None:
        self.part = part
        self._load_value = load_value
        self._packed: dict[str, bytes] = {}
        self.live_bytes = 0
        """Bytes of all packed states with their keys: what the changelog must hold at least."""
        # Two generations: when the young one is full it becomes the old one, and what the old one
        # held and nobody asked for is dropped. An LRU without bookkeeping at each access.
        self._young: dict[str, _Hot] = {}
        self._old: dict[str, _Hot] = {}
        self._dirty: dict[str, None] = {}
        self.timers = Timers(self.wake_at_ms)
        """When which key is to be woken."""

    def __len__(self) -> int:
        return len(self._packed.keys() | self._dirty.keys()) if self._dirty else len(self._packed)

    def __contains__(self, key: str) -> bool:
        return key in self._packed

    @property
    def is_dirty(self) -> bool:
        """Whether anything changed since the last `drain`."""
        return bool(self._dirty)

    def event(self, record: Record, shared: Shared) -> Step[Any]:
        """Give the operator one record of its key."""
        key = record.key
        hot = self._hot(key)
        state = hot.state if hot is not None else None
        step = self.part.operator.on_event(state, record, shared)
        if step.state is not state or (hot is not None and hot.wake_at_ms != step.wake_at_ms):
            self._put(key, step, hot)
        return step

    def fire(self, before_ms: int, shared: Shared) -> Iterable[Step[Any]]:
        """Fire every timer below a log time, in the order (time, key)."""
        while due := self.timers.pop_due(before_ms):
            wake_at_ms, key = due
            hot = self._hot(key)
            state = hot.state if hot is not None else None
            step = self.part.operator.on_timer(state, wake_at_ms, shared)
            if step.wake_at_ms is not None and step.wake_at_ms <= wake_at_ms:
                problem = f"{self.part.name} sets a timer at or before the one that fires"
                raise AssertionError(problem)
            self._put(key, step, hot)
            yield step

    def wake_at_ms(self, key: str) -> int | None:
        """Return when a key is to be woken, log time, ms; None: not at all."""
        hot = self._young.get(key) or self._old.get(key)
        if hot is not None:
            return hot.wake_at_ms
        packed = self._packed.get(key)
        if packed is None or packed.startswith(_NO_WAKE):
            return None
        return int.from_bytes(packed[:8], "big")

    def drain(self) -> list[tuple[str, bytes | None]]:
        """Return what changed since the last call: each key with its packed state, None: gone."""
        changes: list[tuple[str, bytes | None]] = []
        for key in self._dirty:
            hot = self._young.get(key) or self._old.get(key)
            if hot is None or hot.state is None:
                if self._replace(key, None):
                    changes.append((key, None))
                continue
            packed = self._pack(hot)
            self._replace(key, packed)
            changes.append((key, packed))
        self._dirty.clear()
        if len(self._young) > _HOT_MAX // 2:
            self._old, self._young = self._young, {}
        return changes

    def packed(self, key: str) -> bytes | None:
        """Return the packed state of a key."""
        return self._packed.get(key)

    def restore(self, key: str, packed: bytes | None) -> None:
        """Take a change from the file; later ones replace earlier ones."""
        self._replace(key, packed)

    def _replace(self, key: str, packed: bytes | None) -> bool:
        before = self._packed.pop(key, None)
        if before is not None:
            self.live_bytes -= len(key) + len(before)
        if packed is not None:
            self._packed[key] = packed
            self.live_bytes += len(key) + len(packed)
        return before is not None

    def set_timers(self) -> None:
        """Set the timers of all restored states."""
        for key in self._packed:
            wake_at_ms = self.wake_at_ms(key)
            if wake_at_ms is not None:
                self.timers.set(key, wake_at_ms)

    def _hot(self, key: str) -> _Hot | None:
        hot = self._young.get(key)
        if hot is not None:
            return hot if hot.state is not None else None
        hot = self._old.get(key)
        if hot is None:
            packed = self._packed.get(key)
            if packed is None:
                return None
            hot = self._unpack(key, packed)
        self._young[key] = hot
        return hot if hot.state is not None else None

    def _put(self, key: str, step: Step[Any], before: _Hot | None) -> None:
        # A forgotten key stays as a mark until the batch is written, hence state None.
        self._young[key] = _Hot(step.state, step.wake_at_ms)
        self._dirty[key] = None
        wake_at_ms = step.wake_at_ms
        if wake_at_ms is not None and (before is None or before.wake_at_ms != wake_at_ms):
            self.timers.set(key, wake_at_ms)

    def _pack(self, hot: _Hot) -> bytes:
        data, records = self.part.operator.pack(hot.state)
        wake_at_ms = hot.wake_at_ms or 0
        # Small numbers take a byte or three: the stream by its place, the time before the timer.
        inputs = self.part.inputs
        places: list[int] = []
        for record in records:
            before_ms = wake_at_ms - record.log_time_ms
            places += (record.offset, before_ms, inputs.index(record.stream))
        return wake_at_ms.to_bytes(8, "big") + _encode((data, *places))

    def _unpack(self, key: str, packed: bytes) -> _Hot:
        wake_at_ms = int.from_bytes(packed[:8], "big") or None
        data, *places = _decode(memoryview(packed)[8:])
        inputs = self.part.inputs
        records = tuple(
            Record(
                inputs[places[at + 2]],
                key,
                (wake_at_ms or 0) - places[at + 1],
                _Unread(self._load_value, places[at]),
                places[at],
            )
            for at in range(0, len(places), 3)
        )
        return _Hot(self.part.operator.unpack(data, records), wake_at_ms)


def packed_state(part: Keyed, state: Any) -> bytes:
    """Return a state that holds no record and waits for nothing, as the changelog keeps it."""
    data, records = part.operator.pack(state)
    assert not records  # noqa: S101 - their places would have to be told
    return _NO_WAKE + _encode((data,))


class _Unread:
    """The value of a record that nobody has looked at yet."""

    __slots__ = ("_load_value", "_position")

    def __init__(self, load_value: LoadValue, position: int) -> None:
        self._load_value = load_value
        self._position = position

    def __call__(self) -> Any:
        return self._load_value(self._position)
