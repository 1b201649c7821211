"""The whole loop: input events a second through decide, greet, join and learn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engines.exchange
from benchmarks.parts import visits
from benchmarks.parts.stopwatch import Meter, Parts, Spent
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from engines.embedded import EmbeddedEngine
from pipelines.topology import greeting_loop
from schemas.codec import decode

COHORT = 1_000
"""Visits that are at the same stage at the same time."""
FOLDER = "/var/tmp"  # noqa: S108 - a disk, where /tmp may be memory and nothing durable


class WholeLoop:
    """A folder with an engine, and a driver that plays cohorts of visits into it.

    In each round one cohort comes, another is greeted, a third reacts and leaves: the engine finds
    4,000 events of three kinds of visits. Appending them, durably, is the producers' work and is
    not measured.
    """

    def __init__(self, folder: Path, synchronous: str) -> None:
        self.clock = SetClock(visits.START_MS)
        self.log = EmbeddedLog(folder, self.clock, synchronous)
        self.engine = EmbeddedEngine(self.log, greeting_loop(), None)
        config = visits.loop()
        self.log.append_all([("outcomes", config), ("loops", config)])
        self.engine.run_to_rest()
        self.meter = Meter()
        self.events = 0
        self._decided: dict[int, str] = {}
        self._decisions_through = 0

    def play(self, cohorts: int) -> None:
        """Play whole visits."""
        for round_number in range(cohorts + 2):
            self.clock.set(self.clock() + 1_000)
            batch: list[tuple[str, Any]] = []
            if round_number < cohorts:
                batch += self._come(round_number)
            if 0 < round_number <= cohorts:
                batch += self._see_greeting(round_number - 1)
            if round_number > 1:
                batch += self._leave(round_number - 2)
            self.log.append_all(batch)
            self.events += len(batch)
            with self.meter:
                self.engine.run_to_rest()
        self.clock.set(self.clock() + 1)
        with self.meter:
            self.engine.run_to_rest()

    def close(self) -> None:
        """Close engine and log."""
        self.engine.close()
        self.log.close()

    def _come(self, cohort: int) -> list[tuple[str, Any]]:
        at_ms = self.clock()
        return [("analyses", visits.analysed(i, "pre", at_ms)) for i in _numbers(cohort)]

    def _see_greeting(self, cohort: int) -> list[tuple[str, Any]]:
        for row in self.log.scan("decisions", after=self._decisions_through):
            choice = decode(row.value).choice
            self._decided[int(choice.decision_id[-10:])] = choice.action_id
            self._decisions_through = row.position
        at_ms = self.clock()
        return [
            ("impressions", visits.shown(i, self._decided.pop(i), at_ms)) for i in _numbers(cohort)
        ]

    def _leave(self, cohort: int) -> list[tuple[str, Any]]:
        at_ms = self.clock()
        posts = [("analyses", visits.analysed(i, "post", at_ms)) for i in _numbers(cohort)]
        return [*posts, *(("visits", visits.ended(i, at_ms)) for i in _numbers(cohort))]


def _numbers(cohort: int) -> range:
    return range(cohort * COHORT, (cohort + 1) * COHORT)


def measure(cohorts: int, synchronous: str) -> tuple[int, Spent]:
    """Return the number of input events and the time the engine took for them."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        loop = WholeLoop(Path(folder), synchronous)
        loop.play(1)  # compiles encoders and decoders, derives the first policy
        loop.close()
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        loop = WholeLoop(Path(folder), synchronous)
        loop.play(cohorts)
        counts = loop.log.counts()
        loop.close()
    wanted = cohorts * COHORT
    if counts["decisions"] != wanted or counts["outcomes"] != wanted + 1 or counts["late"]:
        problem = f"{wanted} visits gave {counts}"
        raise AssertionError(problem)
    return loop.events, loop.meter.spent


def where_the_time_goes(cohorts: int) -> dict[str, float]:
    """Return microseconds of each visit by part, exclusive, measured by wrapping its functions."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        loop = WholeLoop(Path(folder), "FULL")
        parts = Parts()
        undo = _wrap(parts, loop)
        loop.play(cohorts)
        for put_back in undo:
            put_back()
        loop.close()
    spent = {part: s / (cohorts * COHORT) * 1e6 for part, s in parts.seconds.items()}
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def _wrap(parts: Parts, loop: WholeLoop) -> list[Callable[[], None]]:
    engine, log = loop.engine, loop.log
    undo = [
        parts.wrap(engine, "cycle", "engine: everything else"),
        parts.wrap(engines.exchange, "decode", "decode input events"),
        parts.wrap(engines.exchange, "encode", "encode outputs"),
        parts.wrap(log, "read", "sqlite: read"),
        parts.wrap(log, "write", "sqlite: append outputs"),
        parts.between(log, "commit.before", "commit.after", "sqlite: commit, with fdatasync"),
    ]
    for part in engine.dataflow.keyed:
        for method in ("on_event", "on_timer"):
            undo.append(parts.wrap(part.operator, method, f"operator: {part.name}"))
    return undo
