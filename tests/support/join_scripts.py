"""Scripts for the join: several decisions and everything that can come of them, in any order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from pipelines.join import ORPHAN_WAIT_MS
from schemas.decisions import DecisionMade
from schemas.frames import Box
from schemas.operations import Tick
from worlds import START_MS, analyzed, decided, ended, loop, rewarded, shown

INPUTS = ("decisions", "impressions", "analyses", "rewards", "visits")
YEAR_2100_MS = 4_102_444_800_000
HORIZON_MS = 22_000
"""Two windows of 5,000 ms with grace 500, twice: so that scripts reach the end of the memory."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a script."""

    log_time_ms: int
    """When the log takes it, ms."""
    stream: str
    """Where it stands."""
    value: Any
    """The record."""


_CONFIGS = [
    loop(
        algorithm="uniform",
        rules={
            "activation": activation,
            "closing_reactions": closing,
            "aggregation": aggregation,
            "missing": missing,
            "dedup_horizon_ms": HORIZON_MS,
        },
    )
    for activation in ("at_impression", "at_decision")
    for closing, aggregation, missing in ((0, "sum", "default"), (2, "earliest", "drop"))
]
# Times that lie on both sides of each edge: reaction delay, window, deadline, horizon.
_EDGES = (0, 1, 499, 500, 501, 5_000, 5_001, 5_500, 5_501, 10_999, 11_000, 11_001, HORIZON_MS)
_after = st.sampled_from(_EDGES) | st.integers(-3_000, 30_000)
_happy = st.sampled_from([None, 0.1, 0.5, 0.9])
_confidence = st.sampled_from([0.3, 0.5, 0.9])
ELSEWHERE = Box(0.95, 0.2, 0.3, 0.3)
"""A face here is not that of `worlds.face`."""
POOR_QUALITY = 0.1
"""Of a face that cannot be read."""
_looks: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {}, {}, {"quality": 0.9}, {"quality": POOR_QUALITY}, {"box": ELSEWHERE}]
)
_lags = st.sampled_from([0, 1, 200, 2_000, 8_000])


@st.composite
def _event_times(draw: st.DrawFn, log_time_ms: int) -> int:
    way = draw(st.sampled_from(["lag", "lag", "lag", "ahead", "1970", "2100"]))
    if way == "lag":
        return log_time_ms - draw(_lags)
    return {"ahead": log_time_ms + 700, "1970": 0, "2100": YEAR_2100_MS}[way]


@st.composite
def decision_story(draw: st.DrawFn, name: str) -> list[Entry]:
    """Return all records of one decision id, in no order."""
    config = draw(st.sampled_from(_CONFIGS))
    decided_ms = START_MS + draw(st.integers(0, 5_000))
    happy = draw(st.sampled_from([0.2, 0.2, 0.2, None]))
    made = decided(name, decided_ms, config, happy, draw(st.sampled_from([0.9, 0.9, 0.4])))
    entries = []
    for delay_ms in draw(st.lists(st.sampled_from([0, 0, 3, 900, HORIZON_MS]), max_size=2)):
        entries.append(Entry(decided_ms + delay_ms, "decisions", made))
    if draw(st.integers(0, 9)) == 0:
        entries.append(Entry(decided_ms + HORIZON_MS + 1, "decisions", made))
    for kind in draw(st.lists(st.sampled_from((*INPUTS[1:], "analyses", "pre")), max_size=9)):
        log_time_ms = decided_ms + draw(_after)
        at_ms = draw(_event_times(log_time_ms))
        number = draw(st.integers(1, 3))
        stream = "analyses" if kind == "pre" else kind
        value = draw(_value(kind, name, made, number, at_ms))
        entries += [Entry(log_time_ms, stream, value)] * draw(st.sampled_from([1, 1, 1, 2]))
    return entries


@st.composite
def _value(
    draw: st.DrawFn, kind: str, name: str, made: DecisionMade, number: int, at_ms: int
) -> Any:
    if kind == "impressions":
        right = made.choice.action_id
        return shown(name, draw(st.sampled_from([right, right, right, "another"])), at_ms)
    if kind == "rewards":
        value = draw(st.sampled_from([-2.0, -0.25, 0.5, 0.75]))
        return rewarded(name, number, value, at_ms, final=draw(st.integers(0, 4)) == 0)
    if kind == "visits":
        return ended(name, at_ms, draw(st.integers(0, 2)))
    if kind == "pre":
        return analyzed(name, "pre", number, at_ms, draw(_happy), draw(_confidence))
    answer = analyzed(name, "post", number, at_ms, draw(_happy), draw(_confidence))
    seen = [replace(seen, **draw(_looks)) for seen in answer.faces]
    return replace(answer, faces=tuple(seen))


@st.composite
def scripts(draw: st.DrawFn) -> list[Entry]:
    """Return a log: the stories of some decisions by log time, ties in an order of chance.

    Ends with the Ticks that bring everything to its end.
    """
    count = draw(st.integers(1, 3))
    entries = [entry for i in range(count) for entry in draw(decision_story(f"v{i}"))]
    ticks = draw(st.lists(st.integers(0, 40_000), max_size=3))
    entries += [Entry(START_MS + t, "ticks", Tick(START_MS + t, "test")) for t in ticks]
    entries = draw(st.permutations(entries))
    entries.sort(key=lambda entry: entry.log_time_ms)
    last_ms = START_MS + 40_000 + ORPHAN_WAIT_MS + HORIZON_MS
    ends = [Entry(last_ms + 1_000 * i, "ticks", Tick(last_ms, "test")) for i in range(2)]
    return [*entries, *ends]


@st.composite
def another_cut(draw: st.DrawFn, entries: list[Entry]) -> list[Entry]:
    """Return the same log with its streams woven together otherwise among equal log times."""
    lanes: dict[tuple[int, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        lanes[entry.log_time_ms, entry.stream].append(entry)
    order = draw(st.permutations([(e.log_time_ms, e.stream) for e in entries]))
    order.sort(key=lambda place: place[0])
    return [lanes[place].pop(0) for place in order]
