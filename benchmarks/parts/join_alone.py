"""The join alone, with decisions made before: engine, memory engine and the plain alternative."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.parts import visits
from benchmarks.parts.row_per_key import RowPerKeyJoin
from benchmarks.parts.stopwatch import Meter, Spent
from benchmarks.parts.whole_loop import FOLDER
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from engines.embedded import EmbeddedEngine
from engines.memory import MemoryEngine
from pipelines.decide import decide
from pipelines.ready import make_ready
from pipelines.topology import greeting_loop
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.operations import Tick
from schemas.outcomes import OutcomeClosed

_STEP_MS = 100
COME_IN_A_STEP = 40
"""Visitors in each 100 ms: with a life of 5 s, 2,000 windows are open, and 27,500 remembered."""
_STAYS = 20
"""One visitor in so many never leaves: the timer closes."""
_REPEATS = 100
"""One end of a visit in so many is delivered twice."""

Event = tuple[str, Any]
Told = tuple[str, str, float, str, int]
"""An outcome as all must agree on it: decision, result, reward, what closed it, when."""


@dataclass(frozen=True, slots=True)
class Run:
    """One join over the same input."""

    spent: Spent
    """What it took."""
    outcomes: list[Told]
    """What it gave out."""


def input_steps(
    n_visits: int, first: int = 0, start_ms: int = visits.START_MS
) -> Iterator[tuple[int, list[Event]]]:
    """Yield (log time, events) until every window has closed.

    Parameters
    ----------
    n_visits : int
        Visits; a multiple of 40.
    first : int
        Number of the first of them.
    start_ms : int
        Log time at which it comes, ms.
    """
    config = visits.loop()
    serving = make_ready(config, None)
    model = decide(visits.analysed(0, "pre", visits.START_MS), visits.START_MS, config, serving)
    last = n_visits // COME_IN_A_STEP
    shown_after, left_after = 5, visits.LIFE_MS // _STEP_MS
    for step in range(last + left_after + 400):
        at_ms = start_ms + step * _STEP_MS
        events: list[Event] = []
        if step < last:
            events += [("decisions", _decision(model, i, at_ms)) for i in _cohort(first, step)]
        if 0 <= step - shown_after < last:
            action_id = model.choice.action_id
            cohort = _cohort(first, step - shown_after)
            events += [("impressions", visits.shown(i, action_id, at_ms)) for i in cohort]
        if 0 <= step - left_after < last:
            for i in _cohort(first, step - left_after):
                events.append(("analyses", visits.analysed(i, "post", at_ms)))
                if i % _STAYS:
                    events.append(("visits", visits.ended(i, at_ms)))
                if i % _REPEATS == 1:
                    events.append(("visits", visits.ended(i, at_ms)))
        if events or step % 50 == 0:
            yield at_ms, events


def _cohort(first: int, step: int) -> range:
    begin = first + step * COME_IN_A_STEP
    return range(begin, begin + COME_IN_A_STEP)


def _decision(model: DecisionMade, number: int, at_ms: int) -> DecisionMade:
    # The same choice for everybody: making it is not what is measured here.
    visit_id = visits.name(number)
    choice = replace(model.choice, decision_id=visit_id, visit_id=visit_id, decided_at_ms=at_ms)
    return replace(model, choice=choice, cause_id=f"{visit_id}.pre", cause_log_time_ms=at_ms)


def fill(folder: Path, n_visits: int) -> tuple[int, int]:
    """Write the input into a log; return the number of events and the last log time, ms."""
    clock = SetClock()
    log = EmbeddedLog(folder, clock, "NORMAL")
    n_events = 0
    for at_ms, events in input_steps(n_visits):
        clock.set(at_ms)
        log.append_all(events or [("ticks", Tick(at_ms, "benchmark"))])
        n_events += len(events)
    log.close()
    return n_events, clock()


def embedded(source: Path, last_ms: int, synchronous: str) -> Run:
    """Run the embedded engine on a copy of a filled log."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        log = EmbeddedLog(Path(folder), SetClock(last_ms + 1), synchronous)
        engine = EmbeddedEngine(log, greeting_loop().only("join"), None)
        meter = Meter()
        with meter:
            engine.run_to_rest()
        outcomes = [_told(decode(row.value)) for row in log.scan("outcomes")]
        engine.close()
        log.close()
    return Run(meter.spent, outcomes)


def row_per_key(source: Path, synchronous: str) -> Run:
    """Run the plain alternative on the same log."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        log = EmbeddedLog(source, SetClock(), synchronous)
        join = RowPerKeyJoin(Path(folder) / "join.db", synchronous)
        meter = Meter()
        with meter:
            join.run(log.scan())
        outcomes = [_plainly_told(outcome) for outcome in join.outcomes()]
        log.close()
    return Run(meter.spent, outcomes)


def _plainly_told(outcome: dict[str, Any]) -> Told:
    decision_id = outcome["choice"]["decision_id"]
    names = ("result", "reward", "closed_by", "closed_at_ms")
    result, reward, closed_by, closed_at_ms = (outcome[name] for name in names)
    return decision_id, result, reward, closed_by, closed_at_ms


def memory(n_visits: int) -> tuple[int, Run]:
    """Run the reference: everything in memory, nothing decoded, encoded or durable."""
    engine = MemoryEngine(greeting_loop().only("join"))
    steps = list(input_steps(n_visits))
    meter = Meter()
    with meter:
        for at_ms, events in steps:
            for stream, value in events:
                engine.append(stream, value, at_ms)
        engine.advance(steps[-1][0] + 1)
    outcomes = [_told(r.value) for r in engine.log if r.stream == "outcomes"]
    return sum(len(events) for _, events in steps), Run(meter.spent, outcomes)


def _told(outcome: OutcomeClosed) -> Told:
    return (
        outcome.choice.decision_id,
        outcome.result,
        outcome.reward,
        outcome.closed_by,
        outcome.closed_at_ms,
    )
