"""The tombstone of a key: it was seen, and is remembered until a log time."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.operators import Record, Shared, Step


@dataclass(frozen=True, slots=True)
class Remembered:
    """The key was handled; a repeat of it changes nothing."""

    until_ms: int
    """Log time until which it is remembered, ms."""

    def step(self) -> Step[Remembered]:
        """Stay as it is."""
        return Step(self, wake_at_ms=self.until_ms)


class RemembersKeys:
    """The part of an operator whose only state is `Remembered`."""

    def on_timer(
        self, state: Remembered | None, log_time_ms: int, shared: Shared
    ) -> Step[Remembered]:
        """Forget the key when its time has come."""
        if state is None or log_time_ms >= state.until_ms:
            return Step(None)
        return state.step()

    def pack(self, state: Remembered) -> tuple[bytes, tuple[Record, ...]]:
        """Take the state apart: eight bytes."""
        return state.until_ms.to_bytes(8, "big"), ()

    def unpack(self, data: bytes, records: tuple[Record, ...]) -> Remembered:
        """Put it together again."""
        return Remembered(int.from_bytes(data, "big"))
