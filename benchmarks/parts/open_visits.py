"""A million open visits: memory, disk and speed of the join. Run as a process of its own."""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.parts import visits
from benchmarks.parts.stopwatch import Meter
from benchmarks.parts.whole_loop import FOLDER
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from engines.embedded import EmbeddedEngine
from pipelines.decide import decide
from pipelines.ready import make_ready
from pipelines.topology import greeting_loop
from schemas.codec import encode

_BATCH = 2_000
_PROBE = 5_000
"""Visits that are greeted, react and leave while all the others stay open."""


class OpenVisits:
    """A join with many decisions whose impression has not come yet."""

    def __init__(self, folder: Path) -> None:
        self.clock = SetClock(visits.START_MS)
        self.log = EmbeddedLog(folder, self.clock)
        self.engine = EmbeddedEngine(self.log, greeting_loop().only("join"), None)
        # A day: nobody's window closes by the timer while the others come.
        config = visits.loop()
        rules = replace(config.rules, reward_window_ms=86_400_000, dedup_horizon_ms=3 * 86_400_000)
        config = replace(config, rules=rules)
        frame = visits.analysed(0, "pre", visits.START_MS)
        self._decision = decide(frame, visits.START_MS, config, make_ready(config, None))
        self._model = encode(self._decision)

    def open(self, first: int, count: int) -> None:
        """Append decisions, and let the join open their windows."""
        mine = visits.name(0).encode()
        for start in range(first, first + count, _BATCH):
            self.clock.set(self.clock() + 1)
            numbers = range(start, min(start + _BATCH, first + count))
            # Bytes with another id in them: making a million decisions is not what is measured.
            records = [
                ("decisions", visits.name(i), self._model.replace(mine, visits.name(i).encode()))
                for i in numbers
            ]
            with self.log.transaction():
                self.log.write(records)
            self.engine.run_to_rest()
        self.clock.set(self.clock() + 1)
        self.engine.run_to_rest()

    def close_some(self, numbers: list[int]) -> float:
        """Let some visits be greeted, react and leave; return events per second of CPU time."""
        action_id = self._decision.choice.action_id
        meter = Meter()
        n_events = 0
        for start in range(0, len(numbers), 1_000):
            at_ms = self.clock() + 1_000
            self.clock.set(at_ms)
            batch: list[tuple[str, Any]] = []
            for i in numbers[start : start + 1_000]:
                batch.append(("impressions", visits.shown(i, action_id, at_ms - 900)))
                batch.append(("analyses", visits.analysed(i, "post", at_ms - 100)))
                batch.append(("visits", visits.ended(i, at_ms)))
            self.log.append_all(batch)
            n_events += len(batch)
            self.clock.set(at_ms + 1)
            with meter:
                self.engine.run_to_rest()
        closed = self.log.counts()["outcomes"]
        if not closed or closed % len(numbers):
            problem = f"{len(numbers)} visits left, {closed} outcomes are in the log"
            raise AssertionError(problem)
        return n_events / meter.cpu_s


def resident_bytes() -> int:
    """Return the memory this process holds now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1_024
    problem = "this system does not tell a process's memory"
    raise OSError(problem)


def measure(n_open: int) -> dict[str, float]:
    """Open many visits; return memory, disk and speed with a thousand open and with all."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        world = OpenVisits(Path(folder))
        world.open(0, 1_000 + _PROBE)
        few = world.close_some(list(range(1_000, 1_000 + _PROBE)))
        before = resident_bytes()
        meter = Meter()
        with meter:
            world.open(10_000, n_open)
        gc.collect()
        resident = resident_bytes()
        (on_disk,) = world.log.db.execute("SELECT SUM(LENGTH(data)) FROM changes").fetchone()
        step = max(1, n_open // _PROBE)
        many = world.close_some(list(range(10_000, 10_000 + step * _PROBE, step))[:_PROBE])
        world.engine.close()
        world.log.close()
    return {
        "open": n_open,
        "resident_mb": resident / 1e6,
        "ram_bytes_each": (resident - before) / n_open,
        "disk_bytes_each": on_disk / n_open,
        "opened_per_second": n_open / meter.cpu_s,
        "events_per_second_few_open": few,
        "events_per_second_all_open": many,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", type=int, default=1_000_000)
    print(json.dumps(measure(parser.parse_args().open)))
