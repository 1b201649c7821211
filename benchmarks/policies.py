"""Deciding and learning beside River, VowpalWabbit and MABWiser: how fast, and with which regret.

Run ``python benchmarks/policies.py`` from the repository; it takes minutes. Every learner solves
the same problems (12 actions, 17 features, linear, by a seed), one by one and, where it can, in
batches of 1,000. Each runs in a process of its own, with one thread, in turns; the medians over
chunks of 1,000 rounds are told. What comes in a learner's own form (a record, a dictionary, an
array) is made before; VowpalWabbit's text is written while it is timed, since from Python every
call must. Those that are missing are named, with how to make them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a clone, not installed

from benchmarks.parts.policies_case import in_batches, one_by_one, problem  # noqa: E402
from benchmarks.parts.policies_exact import exact_us  # noqa: E402
from benchmarks.parts.policies_learners import CONTENDERS, Contender  # noqa: E402

ENVIRONMENT = ROOT / ".venv-rivals"
MAKE = "make .venv-rivals/installed.stamp"
TIME_LIMIT_S = 1_800.0
"""For one learner and one problem."""
_LOST = ("regret", "late_regret")
Found = dict[str, list[dict[str, Any]]]


def main() -> int:
    """Measure everything and print it."""
    options = _options()
    if options.alone is not None:
        print(json.dumps(_alone(CONTENDERS[options.alone], options.rounds, options.seed)))
        return 0
    tell = _silent if options.json else print
    load = os.getloadavg()[0]
    tell(f"{os.cpu_count()} cores, load {load:.1f}; {options.rounds:,} rounds")
    chosen = [x for x in CONTENDERS if options.only is None or x.group in ("pho", *options.only)]
    found: Found = {contender.name: [] for contender in chosen}
    missing: dict[str, str] = {}
    for seed in range(options.seeds):
        for contender in chosen:
            if contender.name not in missing:
                answer = _run(contender, options.python, options.rounds, seed)
                if isinstance(answer, str):
                    missing[contender.name] = answer
                else:
                    found[contender.name].append(answer)
        tell(f"  problem {seed + 1} of {options.seeds} done, load {os.getloadavg()[0]:.1f}")
    rows = {name: _summary(answers) for name, answers in found.items() if answers}
    _print(rows, missing, tell)
    exact = exact_us()
    tell("\nexact probabilities of 12 actions, us, the fastest:")
    for name, us in exact.items():
        tell(f"  {name:36} {us:8.1f}")
    if options.json:
        more = {"load_before": load, "missing": missing, "exact_us": exact}
        print(json.dumps({**more, "learners": rows}, indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20_000, help="rounds of each problem")
    parser.add_argument("--seeds", type=int, default=3, help="problems")
    parser.add_argument("--only", nargs="+", metavar="WHOSE", help="river, vowpalwabbit, mabwiser")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    default = ENVIRONMENT / "bin" / "python"
    parser.add_argument(
        "--python", default=default, type=Path, help="Python of the environment with the rivals"
    )
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 1 or options.seeds < 1:
        parser.error("--rounds and --seeds must be at least 1")
    return options


def _silent(_line: str) -> None:
    pass


def _alone(contender: Contender, rounds: int, seed: int) -> dict[str, Any]:
    """Measure one learner on one problem, in this process."""
    case = problem(seed, rounds)
    few = problem(seed, min(rounds, contender.rounds_alone_max))
    answer: dict[str, Any] = {"one by one": asdict(one_by_one(contender.make(), few))}
    if len(few.contexts) < rounds:
        answer["one by one"] |= {"regret": math.nan, "late_regret": math.nan}
    if contender.batches:
        answer["batches"] = asdict(in_batches(contender.make(), case))
    return answer


def _run(contender: Contender, rivals: Path, rounds: int, seed: int) -> dict[str, Any] | str:
    """Measure one in a process of its own; return why not, where it could not be."""
    python = rivals if rivals.exists() else Path(sys.executable)
    command = [str(python), __file__, "--alone", str(CONTENDERS.index(contender))]
    command += ["--rounds", str(rounds), "--seed", str(seed)]
    # One thread for all: with several, a matrix of 17 rows waits for them longer than it takes.
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command, env={**os.environ, **one}, capture_output=True, text=True, timeout=TIME_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {TIME_LIMIT_S:.0f} s"
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        if "ModuleNotFoundError" in last:
            return f"{last.partition(': ')[2]}; do: {MAKE}"
        return last or f"it ended with {done.returncode}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _summary(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians of times and means of regrets over all problems."""
    row: dict[str, Any] = {}
    for way in answers[0]:
        each = [answer[way] for answer in answers]
        row[way] = {
            "decide_us": median(x["decide_us"] for x in each),
            "learn_us": median(x["learn_us"] for x in each),
            # JSON knows no not-a-number.
            "regret": _mean(x["regret"] for x in each),
            "late_regret": _mean(x["late_regret"] for x in each),
        }
        row[way]["a_second"] = 1e6 / (row[way]["decide_us"] + row[way]["learn_us"])
    return row


def _mean(values: Iterable[float]) -> float | None:
    result = mean(values)
    return None if math.isnan(result) else result


def _print(rows: dict[str, dict[str, Any]], missing: dict[str, str], tell: Any) -> None:
    """Print each learner, and PHO's ratios to the others."""
    for way in ("one by one", "batches"):
        title = "one by one" if way == "one by one" else "in batches of 1,000"
        head = f"\n{title:28} {'decide us':>10} {'learn us':>9} {'a second':>9}"
        tell(f"{head} {'regret':>9} {'2nd half':>9}")
        for name, row in rows.items():
            if way in row:
                x = row[way]
                line = f"{name:28} {x['decide_us']:10.1f} {x['learn_us']:9.1f}"
                lost = [f"{x[key]:9.0f}" if x[key] is not None else f"{'-':>9}" for key in _LOST]
                tell(f"{line} {x['a_second']:9,.0f} {' '.join(lost)}")
    for name, why in missing.items():
        tell(f"{name:28} not measured: {why}")
    for ours in ("PHO thompson", "PHO squarecb"):
        for way in ("one by one", "batches"):
            ratios = [
                f"{rows[ours][way]['a_second'] / row['one by one']['a_second']:.1f} x {name}"
                for name, row in rows.items()
                if not name.startswith("PHO") and ours in rows
            ]
            if ratios:
                tell(f"\n{ours} {way}: {', '.join(ratios)} (one by one)")


if __name__ == "__main__":
    sys.exit(main())
