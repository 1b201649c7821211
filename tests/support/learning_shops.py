"""A folder with a job that decides and learns, whose visitors are a few numbers each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from engines.embedded import EmbeddedEngine
from engines.job import configure
from pipelines.topology import greeting_loop
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.loops import LoopConfigured
from schemas.outcomes import PolicySnapshot
from worlds import START_MS, analyzed, decided, outcome


class LearningShop:
    """A shop at work; every append and every visit moves its clock by a second.

    Parameters
    ----------
    folder : Path
        Where the log lies.
    config : LoopConfigured
        Its loop.
    """

    def __init__(self, folder: Path, config: LoopConfigured) -> None:
        self.folder = folder
        self.config = config
        self.clock = SetClock(START_MS)
        self.log = EmbeddedLog(folder, self.clock, "NORMAL")
        self.count = 0
        self.configured(config)

    def configured(self, config: LoopConfigured) -> None:
        """Start the job with a configuration."""
        self.config = config
        self._pass_a_second()
        configure(self.log, (config,))
        self.run()

    def visit(self, count: int = 1, reward: float | None = None) -> DecisionMade:
        """Let visitors come; the first action pleases less than the others."""
        for _ in range(count):
            self._pass_a_second()
            name = f"v{self.count}"
            happy = (self.count % 10) / 10.0
            self.log.append("analyses", analyzed(name, "pre", 0, self.clock(), happy))
            self.run()
            made = self.newest("decisions")
            assert isinstance(made, DecisionMade)
            earned = reward if reward is not None else 0.6 * (made.choice.action_id != "a0")
            self.log.append("outcomes", outcome(made, earned, self.clock()))
            self.count += 1
        self.run()
        assert isinstance(made, DecisionMade)
        return made

    def outcomes(self, count: int, reward: float) -> None:
        """Let visitors be decided about as by chance, and all earn the same; many times faster."""
        self._pass_a_second()
        names = [f"o{number}" for number in range(self.count, self.count + count)]
        made = [decided(name, self.clock(), self.config, 0.4) for name in names]
        self.log.append_all([("outcomes", outcome(each, reward, self.clock())) for each in made])
        self.count += count
        self.run()

    def run(self) -> None:
        """Let the job do what there is to do."""
        self._pass_a_second()
        engine = EmbeddedEngine(self.log, greeting_loop().only("decide", "learn"))
        try:
            while True:
                engine.cycle()
                if not engine.stirred:
                    return
        finally:
            engine.close()

    def newest(self, stream: str) -> Any:
        """Return the newest record of a stream."""
        return decode(self.log.last(stream, 1)[0].value)

    def all(self, stream: str) -> list[Any]:
        """Return all records of a stream."""
        return [decode(row.value) for row in self.log.scan(stream)]

    def snapshot(self, policy_id: str = "main") -> PolicySnapshot:
        """Return the newest snapshot of a policy."""
        found = [each for each in self.all("policies") if each.policy_id == policy_id]
        newest = max(found, key=lambda each: (each.epoch, each.version))
        assert isinstance(newest, PolicySnapshot)
        return newest

    def _pass_a_second(self) -> None:
        # A command that was run meanwhile appended by the wall clock, months ahead of this one.
        self.clock.set(max(self.clock(), self.log.newest_log_time_ms()) + 1_000)
