"""Where the time goes: exclusive time of named functions, by wrapping them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from connectors.embedded_log import EmbeddedLog

_WRAP_COST_S = 0.25e-6
"""What one wrapped call costs by itself: about 25 of them in a visit."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Time of both kinds."""

    wall_s: float
    """By the clock on the wall, seconds."""
    cpu_s: float
    """Of the processor, by this process, seconds."""


class Meter:
    """Adds up the time spent inside ``with meter:``."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def __enter__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall_s += time.perf_counter() - self._wall_s
        self.cpu_s += time.process_time() - self._cpu_s

    @property
    def spent(self) -> Spent:
        """What was spent so far."""
        return Spent(self.wall_s, self.cpu_s)


class Parts:
    """Exclusive wall time by part: while an inner part runs, its outer one's clock stands."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since_s = 0.0

    def wrap(self, owner: Any, attribute: str, part: str) -> Callable[[], None]:
        """Count the calls of a function under a part; return what undoes that."""
        inner = getattr(owner, attribute)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._enter(part)
            try:
                return inner(*args, **kwargs)
            finally:
                self._leave()

        setattr(owner, attribute, counted)
        return lambda: setattr(owner, attribute, inner)

    def between(self, log: EmbeddedLog, begin: str, end: str, part: str) -> Callable[[], None]:
        """Count what happens between two named steps of a commit; return what undoes that."""
        before = log.steps

        def counted(step: str) -> None:
            if step == end:
                self._leave()
            if step == begin:
                self._enter(part)

        log.steps = counted
        return lambda: setattr(log, "steps", before)

    def _enter(self, part: str) -> None:
        now_s = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now_s - self._since_s
        self._stack.append(part)
        self._since_s = time.perf_counter()

    def _leave(self) -> None:
        now_s = time.perf_counter()
        part = self._stack.pop()
        self.seconds[part] += now_s - self._since_s - _WRAP_COST_S
        self._since_s = time.perf_counter()


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that at least this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
