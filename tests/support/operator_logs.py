"""Logs for single operators, as hypothesis writes them, and what the reference makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from join_scripts import Entry, scripts
from pipelines.topology import greeting_loop
from runs import MemoryRun, feed, finish
from schemas.operations import Tick
from schemas.outcomes import PolicyDirected
from worlds import START_MS, analyzed, decided, loop, outcome

LEARNING_CONFIGS = (loop(), loop(4), loop(seed=9), loop(rules={"default_reward": 0.5}))
"""The configurations that logs for learn are made of."""
_END_MS = 200_000


def answer_of(name: str, entries: list[Entry]) -> MemoryRun:
    """Return what the reference makes of a log, taken record by record."""
    run = MemoryRun(greeting_loop().only(name), Path())
    feed(run, entries, [1] * len(entries))
    finish(run, entries)
    return run


@st.composite
def _frames(draw: st.DrawFn) -> list[Entry]:
    """Return a log for decide: frames of a few visits, some repeated, some long after."""
    entries = [Entry(START_MS, "loops", loop())]
    after = st.integers(0, 4_000) | st.sampled_from([60_000, 60_001, 64_000, 64_001])
    statuses = st.sampled_from(["ok", "ok", "no_face", "failed", "expired", "refused"])
    for number in range(draw(st.integers(1, 12))):
        status = draw(statuses)
        at_ms = START_MS + draw(after)
        happy = draw(st.sampled_from([0.1, 0.9])) if status == "ok" else None
        name = f"v{draw(st.integers(0, 3))}"
        phase = draw(st.sampled_from(["pre", "pre", "post"]))
        loop_id = draw(st.sampled_from(["greeting"] * 5 + ["nobody"]))
        frame = analyzed(name, phase, number, at_ms, happy, status=status, loop_id=loop_id)
        entries.append(Entry(at_ms, "analyses", frame))
    return ended_by_ticks(entries)


@st.composite
def _decisions(draw: st.DrawFn) -> list[Entry]:
    """Return a log for greet: decisions, repeated and old ones among them."""
    entries = []
    for _ in range(draw(st.integers(1, 10))):
        name, decided_ms = f"v{draw(st.integers(0, 3))}", START_MS + draw(st.integers(0, 3))
        delay_ms = draw(st.sampled_from([0, 1, 59_999, 60_000, 60_001]))
        entries.append(Entry(decided_ms + delay_ms, "decisions", decided(name, decided_ms)))
    return ended_by_ticks(entries)


@st.composite
def _learning_log(draw: st.DrawFn) -> list[Entry]:
    """Return a log for learn: configurations, outcomes, directives, in any order."""
    configs = LEARNING_CONFIGS
    values: list[Any] = [draw(st.sampled_from(configs))] if draw(st.booleans()) else []
    for number in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["outcome"] * 5 + ["config", "explore", "promote"]))
        if kind == "outcome":
            made = decided(f"v{number}", START_MS, draw(st.sampled_from(configs)))
            reward = draw(st.sampled_from([-1.0, 0.25, 1.0]))
            learnable = draw(st.integers(0, 5)) > 0
            values.append(outcome(made, reward, learnable=learnable))
        elif kind == "config":
            values.append(draw(st.sampled_from(configs)))
        else:
            told: Any = kind
            floor = draw(st.integers(0, 10**9))
            values.append(
                PolicyDirected(f"d{number}", "greeting", "main", told, "t", "t", floor_ppb=floor)
            )
    return ended_by_ticks(
        [Entry(START_MS + i, "outcomes", value) for i, value in enumerate(values)]
    )


def ended_by_ticks(entries: list[Entry]) -> list[Entry]:
    """Return a log in order, ended by the Ticks that bring everything to its end."""
    entries.sort(key=lambda entry: entry.log_time_ms)
    last_ms = START_MS + _END_MS
    return [*entries, *(Entry(last_ms + i, "ticks", Tick(last_ms, "test")) for i in range(2))]


LOGS = {"decide": _frames(), "greet": _decisions(), "join": scripts(), "learn": _learning_log()}
