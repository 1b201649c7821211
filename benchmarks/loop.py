"""How fast the greeting loop is on this machine, beside how others write it.

Run ``python benchmarks/loop.py`` from the repository; a million open visits take most of its
minutes. ``--quick`` takes less than one, ``--json`` prints one document. docs/benchmarks.md says
what was measured, and how.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone, not installed

from benchmarks.parts import join_alone, live, whole_loop
from benchmarks.parts.stopwatch import Spent, percentile

Tell = Callable[[str], None]

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Measure everything and print it."""
    options = _options()
    tell: Tell = _silent if options.json else print
    tell(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; events per second of wall (CPU)")
    found: dict[str, Any] = {"load_before": os.getloadavg()[0]}
    found["whole_loop"] = _whole_loop(options, tell)
    found["join"] = _join(options, tell)
    found["open_visits"] = _open_visits(options, tell)
    found["live"] = _live(options, tell)
    found["microseconds_per_visit"] = _where(options, tell)
    found["load_after"] = os.getloadavg()[0]
    if options.json:
        print(json.dumps(found, indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, under a minute")
    parser.add_argument("--open", type=int, help="how many visits are open at once")
    options = parser.parse_args()
    if options.open is None:
        options.open = 50_000 if options.quick else 1_000_000
    return options


def _silent(_line: str) -> None:
    pass


def _whole_loop(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    tell("\nWhole loop: decide, greet, join, learn (aim 20,000)")
    found = {}
    for synchronous in ("FULL", "NORMAL"):
        runs = [whole_loop.measure(3 if options.quick else 6, synchronous) for _ in _times(options)]
        found[synchronous] = _rates(runs[0][0], _best([spent for _, spent in runs]))
        tell(_line(f"embedded engine, synchronous={synchronous}", found[synchronous]))
    return found


def _join(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    n_visits = 3_000 if options.quick else 6_000
    tell("\nJoin alone, window 30 s (aim 60,000); all with the same outcomes")
    with tempfile.TemporaryDirectory(dir=whole_loop.FOLDER) as folder:
        source = Path(folder)
        events, last_ms = join_alone.fill(source, n_visits)
        # In turns, so that what else the machine does falls on all alike.
        runs = [
            (
                join_alone.embedded(source, last_ms, "FULL"),
                join_alone.embedded(source, last_ms, "NORMAL"),
                join_alone.row_per_key(source, "FULL"),
            )
            for _ in _times(options)
        ]
    few_events, reference = join_alone.memory(min(n_visits, 2_000))
    if len({tuple(sorted(run.outcomes)) for turn in runs for run in turn}) != 1:
        problem = "the joins differ in their outcomes"
        raise AssertionError(problem)
    ours, relaxed, plain = (_best([run.spent for run in kind]) for kind in zip(*runs, strict=True))
    found = {
        "embedded engine, synchronous=FULL": _rates(events, ours),
        "embedded engine, synchronous=NORMAL": _rates(events, relaxed),
        "Python + SQLite, a row per key, fastavro, FULL": _rates(events, plain),
        "memory engine (nothing decoded, nothing durable)": _rates(few_events, reference.spent),
    }
    for name, rates in found.items():
        tell(_line(name, rates))
    wall, cpu = plain.wall_s / ours.wall_s, plain.cpu_s / ours.cpu_s
    tell(f"  the embedded engine is {wall:.1f} times as fast as a row per key (CPU {cpu:.1f})")
    return {**found, "ratio_to_row_per_key": {"wall": wall, "cpu": cpu}}


def _open_visits(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    tell(f"\n{options.open:,} open visits in the join (aim: under 300 MB, under 1 KB each on disk)")
    script = ROOT / "benchmarks" / "parts" / "open_visits.py"
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(script), "--open", str(options.open)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    tell(f"  resident {found['resident_mb']:.0f} MB, {found['ram_bytes_each']:.0f} bytes each")
    tell(f"  state on disk {found['disk_bytes_each']:.0f} bytes each")
    few, many = found["events_per_second_few_open"], found["events_per_second_all_open"]
    tell(f"  events per second of CPU: {few:,.0f} with 1,000 open, {many:,.0f} with all")
    return found


def _live(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    tell("\nLive, by the wall clock, one process (ms)")
    if live.assets_missing():
        tell("  not measured: `pho doctor --fetch` brings models and recordings first")
        return {}
    greeted = live.frame_to_greeting(12 if options.quick else 80, visitors_a_second=5.0)
    snapshot, decision = live.reaction_to_policy(12 if options.quick else 80)
    found = {}
    for name, aim, values in (
        ("frame to greeting, local analyser", 150, greeted),
        ("reaction to new policy in the log", 100, snapshot),
        ("reaction to a decision made with it", 100, decision),
    ):
        found[name] = {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}
        p50, p99 = found[name]["p50"], found[name]["p99"]
        tell(f"  {name:40s} p50 {p50:6.1f}  p99 {p99:6.1f}  (aim {aim}; {len(values)} times)")
    return found


def _where(options: argparse.Namespace, tell: Tell) -> dict[str, float]:
    tell("\nWhere the time goes: microseconds of a visit (4 events) by part, wall, exclusive")
    found = whole_loop.where_the_time_goes(2 if options.quick else 5)
    for part, microseconds in found.items():
        tell(f"  {part:40s} {microseconds:7.1f}")
    return found


def _times(options: argparse.Namespace) -> range:
    return range(1 if options.quick else 3)


def _best(runs: list[Spent]) -> Spent:
    """Return the best of each kind of time: what else the machine does only ever adds."""
    return Spent(min(run.wall_s for run in runs), min(run.cpu_s for run in runs))


def _rates(events: int, spent: Spent) -> dict[str, float]:
    return {
        "events": events,
        "events_per_second": events / spent.wall_s,
        "events_per_cpu_second": events / spent.cpu_s,
        **asdict(spent),
    }


def _line(name: str, rates: dict[str, float]) -> str:
    wall, cpu = rates["events_per_second"], rates["events_per_cpu_second"]
    return f"  {name:50s} {wall:9,.0f} ({cpu:,.0f})"


if __name__ == "__main__":
    sys.exit(main())
