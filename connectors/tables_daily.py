"""greetings_daily: decisions and outcomes of a day, counted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from connectors.tables_schema import Row, Value

COUNTED = (
    "d.loop_id, d.action_id, d.control, o.result, o.shown_at IS NOT NULL, o.reward, "
    "o.happiness_before, o.happiness_after"
)
"""What is read of each decision ``d`` and its outcome ``o``, in the order `daily_rows` takes."""
_EARNED = ("rewarded", "defaulted")


@dataclass(slots=True)
class _Count:
    decisions: int = 0
    shown: int = 0
    results: dict[Value, int] = field(default_factory=dict)
    rewards: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)


def daily_rows(day: str, counted: Iterable[Row]) -> list[Row]:
    """Return the rows of `GREETINGS_DAILY` of a day.

    Sums are rounded once, of all values (`math.fsum`): they do not hang on the order in which a
    database gives its rows, so all databases hold the same bits.

    Parameters
    ----------
    day : str
        The day.
    counted : iterable of tuple
        `COUNTED` of each decision of that day, in any order.
    """
    counts: dict[tuple[str, str, bool], _Count] = {}
    for loop_id, action_id, control, result, shown, reward, before, after in counted:
        count = counts.setdefault((str(loop_id), str(action_id), bool(control)), _Count())
        count.decisions += 1
        count.shown += bool(shown)
        count.results[result] = count.results.get(result, 0) + 1
        if result in _EARNED and isinstance(reward, float):
            count.rewards.append(reward)
            if isinstance(before, float) and isinstance(after, float):
                count.before.append(before)
                count.after.append(after)
    return [_row(day, *key, count) for key, count in sorted(counts.items())]


def _row(day: str, loop_id: str, action_id: str, control: bool, count: _Count) -> Row:
    results, rewards = count.results, count.rewards
    total = math.fsum(rewards)
    return (
        day,
        loop_id,
        action_id,
        control,
        count.decisions,
        count.shown,
        results.get("rewarded", 0),
        results.get("defaulted", 0),
        results.get("dropped", 0),
        results.get("not_activated", 0),
        results.get(None, 0),
        total,
        math.fsum(reward * reward for reward in rewards),
        total / len(rewards) if rewards else None,
        len(count.before),
        math.fsum(count.before),
        math.fsum(count.after),
    )
