"""`pho simulate`: the real loop on simulated visitors, in lock-step, resumable, truth beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.pictures import PICTURES, FolderPictures
from engines.embedded import EmbeddedEngine
from engines.job import configure
from pipelines.topology import greeting_loop, tick_tail_ms
from producers.simulated import SimulatedVisitor, SimulatedWorld
from producers.simulated_visits import POST_AFTER_MS, SHOWN_AFTER_MS, VISIT_MS, SimulatedKiosk
from producers.taste import START_MS
from schemas.errors import UsageError
from serving.crashes import crash_steps
from serving.lockstep import LockStep
from serving.settings import Settings

Progress = Callable[[int, int], None]
"""Told how many of how many visits are done."""
_PLAN = "simulate.plan"
_DONE = "simulate.done"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a data folder was made with; going on with anything else would mix two worlds."""

    visits: int
    """How many come."""
    seed: int
    """Seed of the world."""
    drift: int | None
    """Taste flips at this visit; None: never."""
    kiosks: int
    """Kiosks side by side: what one visitor teaches, those of the same round do not know yet."""
    config_hash: str
    """The loop that decides."""


class Rounds(LockStep):
    """Lock-step for many kiosks at once: all records of one moment in one transaction."""

    def __init__(
        self,
        log: EmbeddedLog,
        clock: SetClock,
        engine: EmbeddedEngine,
        tail_ms: int,
        pictures: FolderPictures,
    ) -> None:
        super().__init__(log, clock, engine, tail_ms, pictures)
        rows = log.scan("analyses", "impressions", "visits")
        self._moments = {row.log_time_ms for row in rows}

    def append_all(self, stream: str, values: list[Any], at_ms: int) -> None:
        """Append records at a moment, unless the log holds them; then run to rest.

        One transaction: of one moment's records a crash leaves all or none.
        """
        if values and at_ms not in self._moments:
            self.advance(at_ms)
            self.log.append_all([(stream, value) for value in values])
            self._moments.add(at_ms)
            self._recorded_ms = self.clock()
        self.settle()


class Simulation:
    """One folder of simulated visits.

    Parameters
    ----------
    settings : Settings
        The settings.
    plan : Plan
        What to play.

    Raises
    ------
    UsageError
        When the folder holds something else.
    """

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self.settings = settings
        self.plan = plan
        self.clock = SetClock()
        self.log = EmbeddedLog(settings.data, self.clock, "NORMAL", crash_steps(settings.crash_at))
        self._refuse_other_plan()
        self.loop = settings.loop(settings.kiosk.loop)
        self.world = SimulatedWorld(plan.seed, plan.drift, baseline_id=self.loop.baseline_id)
        self.kiosk = SimulatedKiosk(plan.seed, self.loop.loop_id, plan.kiosks)

    @property
    def finished(self) -> bool:
        """Whether every visit was played and closed."""
        return bool(self.log.fact("simulate.finished"))

    def expected(self, decision_id: str, action_id: str) -> float | None:
        """Return the true expected reward of an action for the visitor of a decision."""
        name, _, index = decision_id.rpartition("-")
        if not index.isdecimal() or name != f"visit-{self.plan.seed}":
            return None
        return self.world.visitor(int(index)).expected(action_id)

    def run(self, progress: Progress) -> None:
        """Play what the folder does not hold yet, to the end."""
        if self.finished:
            return
        engine = EmbeddedEngine(self.log, greeting_loop())
        pictures = FolderPictures(self.settings.data / PICTURES)
        try:
            step = Rounds(self.log, self.clock, engine, tick_tail_ms(self.loop.rules), pictures)
            if not self.clock():
                step.clock.set(START_MS)
            configure(self.log, (self.loop,))
            step.settle()
            self._play(step, progress)
            step.finish()
            with self.log.transaction():
                self.log.set_fact("simulate.finished", 1)
        finally:
            engine.close()

    def _play(self, step: Rounds, progress: Progress) -> None:
        done, visits = int(self.log.fact(_DONE)), self.plan.visits
        progress(done, visits)
        coming = self.world.visitors(visits - done, done)
        for start_ms, visitors in groupby(coming, self.kiosk.start_ms):
            done += self._round(step, list(visitors), start_ms)
            with self.log.transaction():
                self.log.set_fact(_DONE, done)
            progress(done, visits)

    def _round(self, step: Rounds, visitors: list[SimulatedVisitor], start_ms: int) -> int:
        """Play one visitor at each kiosk, from the deciding picture to the leaving."""
        kiosk = self.kiosk
        step.append_all("analyses", [kiosk.pre(visitor) for visitor in visitors], start_ms)
        found = [
            (visitor, step.greeting(kiosk.kiosk_id(visitor), kiosk.visit_id(visitor)))
            for visitor in visitors
        ]
        greeted = [(visitor, greeting) for visitor, greeting in found if greeting is not None]
        shown_ms = start_ms + SHOWN_AFTER_MS
        step.append_all("impressions", [kiosk.shown(*each) for each in greeted], shown_ms)
        for picture, after_ms in enumerate(POST_AFTER_MS):
            posts = [kiosk.post(who, greeting.action_id, picture) for who, greeting in greeted]
            step.append_all("analyses", posts, shown_ms + after_ms)
        step.append_all("visits", [kiosk.ended(who) for who in visitors], start_ms + VISIT_MS)
        return len(visitors)

    def _refuse_other_plan(self) -> None:
        mine = json.dumps(asdict(self.plan))
        known = self.log.fact(_PLAN, "")
        if not known:
            if self.log.end().position:
                problem = f"{self.settings.data} holds a log that no simulation made"
                raise UsageError(problem, "Give the simulation a folder of its own with --data")
            with self.log.transaction():
                self.log.set_fact(_PLAN, mine)
        elif known != mine:
            problem = f"{self.settings.data} holds a simulation of {known}, not of {mine}"
            raise UsageError(problem, "Give another folder with --data, or the same options")
