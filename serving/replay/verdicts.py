"""What a replay is told with: verdicts, and where two records differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

from connectors.archive import ArchiveReader
from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row

TOLD_MAX = 20
"""Differences that are told in words; the others are counted."""
GONE = "not replayable (the log's beginning is gone)"
"""Not compared, since what it follows from is older than what the log keeps."""
LAG_MS = 5_000
"""Results as young as this may be missing: the job that makes them may be still at it, ms."""


class History(Protocol):
    """What a replay needs of a `Log` or of an archive; each member is as there."""

    @property
    def name(self) -> str:
        """Where it is."""
        ...

    def scan(self, *streams: str, key: str | None = None) -> Iterator[Row]:
        """Yield all there is now in some streams, in the order of log time."""
        ...

    def complete_through_ms(self) -> int:
        """Return the log time below which nothing comes any more, ms."""
        ...


@dataclass(slots=True)
class Verdict:
    """What became of one comparison."""

    what: str
    """What was made again: ``outcomes``, ``policies``, ``decisions``."""
    identical: int = 0
    """How many are as the log has them."""
    differing: int = 0
    """How many are not, or are missing, or came from nowhere."""
    differences: list[str] = field(default_factory=list)
    """The first of these in words, in the order of the log."""
    beside: Counter[str] = field(default_factory=Counter)
    """What was not compared, by reason."""

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return not self.differing

    @property
    def text(self) -> str:
        """The verdict in one line."""
        counts = [f"{self.identical:,} identical"]
        if self.differing:
            counts.append(f"{self.differing:,} not")
        counts += [f"{count:,} {why}" for why, count in sorted(self.beside.items())]
        said = "identical" if self.holds else f"differs: {self.differences[0]}"
        return f"{said} ({', '.join(counts)})"

    def differs(self, text: str) -> None:
        """Note a difference."""
        self.differing += 1
        if len(self.differences) < TOLD_MAX:
            self.differences.append(text)

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "identical": self.identical,
            "differing": self.differing,
            "differences": self.differences,
            "not_compared": dict(sorted(self.beside.items())),
            "holds": self.holds,
        }


def differences(again: Any, logged: Any, name: str = "") -> Iterator[str]:
    """Yield where a record made again differs from the one in the log.

    Floating-point numbers are compared bit by bit, as their bytes in the log are.
    """
    if is_dataclass(again) and type(again) is type(logged):
        for each in fields(again):
            path = f"{name}.{each.name}" if name else each.name
            yield from differences(getattr(again, each.name), getattr(logged, each.name), path)
    elif isinstance(again, tuple) and isinstance(logged, tuple) and len(again) == len(logged):
        for place, (mine, its) in enumerate(zip(again, logged, strict=True)):
            yield from differences(mine, its, f"{name}[{place}]")
    elif type(again) is not type(logged) or _bits(again) != _bits(logged):
        yield f"{name} is {_short(logged)} in the log, {_short(again)} again"


def _bits(value: Any) -> Any:
    # 0.0 equals -0.0, and not-a-number not even itself.
    return value.hex() if isinstance(value, float) else value


def _short(value: Any, most: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def keeps_total_order(history: History) -> bool:
    """Whether positions count through all streams: a folder's log, or an archive of one."""
    if isinstance(history, ArchiveReader):
        return history.manifest.total_order
    return isinstance(history, EmbeddedLog)


def complete_ms(history: History) -> int:
    """Return the log time below which a history is complete, ms."""
    through_ms = history.complete_through_ms()
    # The engine of a folder promises more than the newest record says: nothing comes below it.
    return max(through_ms, history.floor_ms()) if isinstance(history, EmbeddedLog) else through_ms
