"""What is lost by not knowing the best greeting: PHO beside River and VowpalWabbit.

Run ``python benchmarks/regret.py`` from the repository; 20,000 visits take a minute or two.
``--vw PYTHON`` names an interpreter that has the package vowpalwabbit, ``--picture FILE`` draws,
``--json`` prints one document. docs/simulation.md says what was measured, and how.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone, not installed

import numpy as np
from numpy.typing import NDArray

from benchmarks.parts import regret_ways
from benchmarks.parts.regret_picture import picture
from benchmarks.parts.regret_ways import Chosen, Draws
from benchmarks.parts.regret_world import Tables, tables
from schemas.loops import Parameter

Way = Callable[[Tables, Draws], Chosen]
Regret = NDArray[np.float64]

SHIPPED = (Parameter("beta", 16.0),)
"""As serving/pho.toml sets it."""
NOISE_KNOWN = (Parameter("beta", 25.0),)
"""A reward moves by 0.2 here (a pleased visitor or not, times 0.45)."""


def main() -> int:
    """Play every way of choosing on the same visitors, and print what each lost."""
    options = _options()
    seeds = range(options.seed, options.seed + options.seeds)
    worlds = [tables(seed, options.visits, options.drift) for seed in seeds]
    draws = [np.random.default_rng(seed).random(options.visits) for seed in seeds]
    found: dict[str, dict[str, Any]] = {}
    lines: dict[str, list[float]] = {}
    for name, way in _ways(options.vw).items():
        started_s = time.perf_counter()
        lost = [_regret(world, way(world, each)) for world, each in zip(worlds, draws, strict=True)]
        found[name] = _told(lost, time.perf_counter() - started_s)
        lines[name] = np.mean(lost, axis=0).tolist()
        if not options.json:
            print(_row(name, found[name]), flush=True)
    if options.json:
        told = {"visits": options.visits, "seeds": list(seeds), "drift": options.drift}
        print(json.dumps({**told, "ways": found}, indent=2))
    if options.picture:
        title = f"Happiness lost by not knowing the best greeting, {options.visits:,} visits"
        options.picture.write_text(picture(title, lines), encoding="utf-8")
    return 0


def _told(lost: list[Regret], seconds: float) -> dict[str, Any]:
    ends = [float(each[-1]) for each in lost]
    late = [float(each[-1] - each[len(each) * 3 // 4 - 1]) for each in lost]
    return {
        "regret": round(sum(ends) / len(ends), 1),
        "regret_least": round(min(ends), 1),
        "regret_most": round(max(ends), 1),
        "regret_last_quarter": round(sum(late) / len(late), 1),
        "seconds": round(seconds, 1),
    }


def _row(name: str, told: dict[str, Any]) -> str:
    least, most = told["regret_least"], told["regret_most"]
    return (
        f"{name:26} lost {told['regret']:8,.1f} ({least:,.1f} to {most:,.1f}), "
        f"{told['regret_last_quarter']:6,.1f} of it in the last quarter; {told['seconds']:.0f} s"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--visits", type=int, default=20_000, help="visitors")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first world")
    parser.add_argument("--seeds", type=int, default=1, help="worlds to average over")
    parser.add_argument("--drift", type=int, help="taste flips at this visitor")
    parser.add_argument("--vw", help="a Python that has vowpalwabbit; left out without")
    parser.add_argument("--picture", type=Path, help="write an SVG here, such as docs/regret.svg")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def _ways(vw: str | None) -> dict[str, Way]:
    """Return every way by its name; who has no options is taken as it comes."""
    pho = partial(regret_ways.pho, served=False)
    ways: dict[str, Way] = {
        "PHO Thompson, as served": partial(regret_ways.pho, served=True, parameters=SHIPPED),
        "PHO Thompson, as shipped": partial(pho, parameters=SHIPPED),
        "PHO SquareCB": partial(pho, algorithm="squarecb"),
        "PHO Thompson, noise known": partial(pho, parameters=NOISE_KNOWN),
        "PHO LinUCB": partial(pho, algorithm="linucb"),
        "River Thompson": regret_ways.river_thompson,
        "River LinUCB": regret_ways.river_linucb,
    }
    if vw:
        for name, options in (("VW epsilon 0.05", "--epsilon 0.05"), ("VW SquareCB", "--squarecb")):
            ways[name] = partial(regret_ways.vowpal_wabbit, python=vw, options=options)
    return {**ways, "uniform": regret_ways.uniform}


def _regret(world: Tables, chosen: Chosen) -> Regret:
    """Return cumulated true regret after each visit: without the chance of this very visitor."""
    got = world.expected[np.arange(len(chosen)), chosen]
    return np.cumsum(world.expected.max(axis=1) - got)


if __name__ == "__main__":
    sys.exit(main())
