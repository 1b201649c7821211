"""Visits in lock-step: a whole greeting loop, played on any engine at set times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runs import Run
from schemas.codec import decode
from schemas.operations import Tick
from worlds import START_MS, captured, ended, loop, rewarded, shown

VISIT_EVERY_MS = 9_000


def _nothing() -> None:
    pass


def play(run: Run, visits: int, after_each: Callable[[], None] = _nothing) -> None:
    """Play visits of every kind, then Ticks until everything is closed and forgotten.

    Parameters
    ----------
    run : Run
        The engine.
    visits : int
        How many.
    after_each : callable
        Called after each record, with the engine at rest.
    """

    def add(at_ms: int, stream: str, value: Any) -> None:
        run.set_time(at_ms)
        run.append(stream, value)
        run.settle()
        after_each()

    config = loop()
    for stream in ("outcomes", "loops"):
        add(START_MS, stream, config)
    for number in range(visits):
        _visit(run, add, number, START_MS + (number + 1) * VISIT_EVERY_MS)
        if number == visits // 2:
            changed = loop(4, seed=8)
            for stream in ("outcomes", "loops"):
                add(START_MS + (number + 2) * VISIT_EVERY_MS - 1, stream, changed)
    end_ms = START_MS + (visits + 2) * VISIT_EVERY_MS
    for at_ms in range(end_ms, end_ms + 75_000, 5_000):
        add(at_ms, "ticks", Tick(at_ms, "test"))
    run.set_time(end_ms + 75_000)


def _visit(run: Run, add: Callable[[int, str, Any], None], number: int, at_ms: int) -> None:
    name = f"v{number}"
    add(at_ms, "frames", captured(name, "pre", 0, at_ms, None if number % 11 == 5 else 0.1))
    if number % 13 == 4:
        add(at_ms + 1, "frames", captured(name, "pre", 1, at_ms, 0.5))
    decisions = [decode(data) for key, _, data in run.out("decisions") if key == name]
    (decision,) = decisions
    action_id = decision.choice.action_id if number % 9 else "another"
    if number % 8 != 7:
        add(at_ms + 200, "impressions", shown(name, action_id, at_ms + 200))
    posts = number % 3
    for post in range(1, posts + 1):
        happy = 0.9 if action_id == "a1" else 0.2
        frame_ms = at_ms + 900 + 300 * post
        add(frame_ms, "frames", captured(name, "post", post, frame_ms, happy))
    if number % 10 == 3:
        add(at_ms + 2_000, "rewards", rewarded(name, 1, 0.75, at_ms + 2_000))
    if number % 5:
        add(at_ms + 3_000, "visits", ended(name, at_ms + 3_000, posts))
        add(at_ms + 3_001, "rewards", rewarded(name, 2, 0.75, at_ms + 3_000))
    if number % 6 == 2:
        add(at_ms + 3_100, "rewards", rewarded(f"nobody{number}", 1, 0.5, at_ms))
