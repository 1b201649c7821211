"""How fast the greeting loop is on Kafka and Flink, beside the smallest job PyFlink can run.

Run ``.venv-flink/bin/python benchmarks/flink.py`` from the repository: broker, cluster and jobs are
started for it, on this machine, and stopped again. ``--quick`` takes a tenth of the visits,
``--only rates,live,memory`` a part, ``--json`` prints one document. docs/benchmarks.md says what
was measured, and how.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Runs from a clone; the stand and its load are the tests'.
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

PARTS = ("rates", "live", "memory")
_CHECKPOINT_MS = 10_000  # as shipped
Tell = Callable[[str], None]


def main() -> int:
    """Measure everything and print it."""
    if find_spec("pyflink") is None:
        print("not measured: PyFlink is not installed here; use .venv-flink/bin/python")
        return 0
    options = _options()
    tell: Tell = (lambda _line: None) if options.json else (lambda line: print(line, flush=True))
    found: dict[str, Any] = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    tell(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for part in options.only:
        with tempfile.TemporaryDirectory() as folder:
            found[part] = _MEASURE[part](Path(folder), options, tell)
    found["load_after"] = os.getloadavg()[0]
    if options.json:
        print(json.dumps(found, indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="a tenth of the visits, once")
    parser.add_argument("--visits", type=int, help="visits of one run (30,000)")
    parser.add_argument("--open", type=int, default=100_000, help="most visits open at once")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts of {', '.join(PARTS)}")
    options = parser.parse_args()
    options.only = [part for part in options.only.split(",") if part in PARTS]
    options.visits = options.visits or (3_000 if options.quick else 30_000)
    return options


def _rates(folder: Path, options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    from benchmarks.parts import flink_layout, flink_profile, flink_rates, flink_runs
    from connectors.java import fetch_java
    from flink_stand import Stand

    tell("\nEvents a second on 2 TaskManagers, input laid out before (aim for the loop: 8,000)")
    jar = flink_runs.stamping_jar(fetch_java(), folder)
    os.environ[flink_profile.FOLDER] = str(folder / "profile")
    (folder / "profile").mkdir()
    n_visits = options.visits
    found: dict[str, Any] = {}
    # The local cluster compiles for a quick start; a cluster of weeks has both compilers.
    both = {"env.java.opts.taskmanager": "-XX:+TieredCompilation"}
    with Stand(
        folder,
        flink_layout.loop(),
        options=both,
        more_jars=(jar,),
        python_path=(ROOT,),
        checkpoint_interval_ms=_CHECKPOINT_MS,
    ) as stand:
        runs = {
            "minimal stateful job (keyed count)": flink_rates.minimal,
            "join alone": flink_rates.join_alone,
            "decide, greet, join, learn": flink_rates.loop_alone,
            "analyze, decide, greet, join, learn": flink_rates.whole_loop,
        }
        told: dict[str, list[Any]] = {name: [] for name in runs}
        # In turns, so that what else the machine does falls on all alike.
        for turn in range(1 if options.quick else 3):
            for number, (name, run) in enumerate(runs.items()):
                told[name].append(run(stand, f"r{turn}-{number}", n_visits))
        for name, several in told.items():
            rate = statistics.median(each.middle_per_second for each in several)
            cpu_us = {
                process: statistics.median(each.cpu_us[process] for each in several)
                for process in several[0].cpu_us
            }
            found[name] = {"events_per_second": rate, "cpu_us": cpu_us}
            texts = ", ".join(f"{process} {us:.0f}" for process, us in cpu_us.items())
            tell(f"  {name:40s} {rate:9,.0f}   (CPU us an event: {texts})")
        smallest = found["minimal stateful job (keyed count)"]["events_per_second"]
        for name in list(runs)[1:]:
            ratio = found[name]["events_per_second"] / smallest
            found[name]["ratio_to_minimal"] = ratio
            tell(f"  {name}: {ratio:.2f} of the minimal job")
        flink_rates.loop_alone(stand, "profiled", n_visits, profile=True)
        found["profile"] = flink_profile.read_profile(folder / "profile")
    _tell_profile(found["profile"], tell)
    return found


def _tell_profile(profile: dict[str, dict[str, float]], tell: Tell) -> None:
    tell("\nWhere the processor's time goes: us of each call by operator and part, exclusive")
    for operator, parts in profile.items():
        calls, *others = parts.items()
        tell(f"  {operator}: {sum(us for _, us in others):.0f} us a call, {calls[1]:,.0f} calls")
        for part, us in others:
            tell(f"    {part:36s} {us:7.1f}")


def _live(folder: Path, options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    from benchmarks.parts.flink_live import Live
    from benchmarks.parts.stopwatch import percentile
    from flink_stand import Stand

    tell("\nLive, 20 visits a second, each picture looked at for 50 ms (ms)")
    n_visits = 200 if options.quick else 1_200
    with Stand(folder, checkpoint_interval_ms=_CHECKPOINT_MS) as stand:
        stand.submit_all()
        live = Live(stand, 20.0)
        greeted = live.frame_to_greeting(n_visits, patience_s=n_visits / 20.0 * 3 + 60)
        live.close()
        learned = live.reaction_to_policy()
    found = {}
    for name, aim, values in (
        ("frame to greeting", "p50 110, p99 300", greeted),
        ("outcome to a policy that learned it", "p99 1,000", learned),
    ):
        found[name] = {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}
        p50, p99 = found[name]["p50"], found[name]["p99"]
        tell(f"  {name:36s} p50 {p50:6.0f}  p99 {p99:6.0f}  (aim {aim}; {len(values)} times)")
    return found


def _memory(folder: Path, options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    from benchmarks.parts import flink_layout, flink_memory, flink_runs
    from connectors.java import fetch_java
    from flink_stand import Stand

    tell("\nOpen visits in the join: bytes of each, both TaskManagers")
    jar = flink_runs.stamping_jar(fetch_java(), folder)
    found = {}
    # A million is 600 MB of heap in each.
    more = {"taskmanager.memory.process.size": "3g"} if options.open > 200_000 else {}
    with Stand(
        folder, flink_layout.loop(), options=more, more_jars=(jar,), python_path=(ROOT,)
    ) as stand:
        before = None
        for n_visits in (10**power for power in range(3, 7)):
            if n_visits > options.open:
                tell(f"  {n_visits:,}: not measured; give --open {n_visits}")
                continue
            held = flink_memory.open_visits(stand, f"open-{n_visits}", n_visits)
            found[str(n_visits)] = asdict(held)
            # What the jobs themselves need is there at the smallest number already.
            first = before or held
            more_visits = max(1, held.visits - first.visits)
            each = (held.heap_bytes - first.heap_bytes) / more_visits
            state = held.checkpoint_bytes / held.visits
            tell(
                f"  {n_visits:9,} open: heap {held.heap_bytes / 1e6:7.1f} MB ({each:6.0f} each), "
                f"resident {held.resident_bytes / 1e6:7.0f} MB, checkpoint {state:6.0f} each "
                f"and {held.checkpoint_cpu_ms:,.0f} ms of processor"
            )
            before = before or held
    return found


_MEASURE = {"rates": _rates, "live": _live, "memory": _memory}

if __name__ == "__main__":
    sys.exit(main())
