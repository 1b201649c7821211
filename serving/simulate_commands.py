"""The command `pho simulate`: visitors with a known truth, by seed."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from schemas.errors import UsageError
from serving.console import AsJson, Config, Data, as_flag, bar, out, print_json, require_vision
from serving.report import Report, read_report, show
from serving.settings import Settings, load
from serving.simulate_report import (
    Truth,
    read_truth,
    show_truth,
    simulation_document,
)
from serving.simulating import Plan, Progress, Simulation

# `--pixels` needs OpenCV and the models, which are imported where they are used: the core installs
# without them.


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(simulate)


def simulate(
    data: Data = None,
    visits: Annotated[int, typer.Option(min=1, help="Simulated visitors.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Who comes, and how each reacts.")] = 1,
    drift: Annotated[
        int | None, typer.Option(min=1, help="Taste flips after so many visits.")
    ] = None,
    algorithm: Annotated[
        str | None, typer.Option(help="Algorithm of the policy, instead of the configured one.")
    ] = None,
    kiosks: Annotated[int, typer.Option(min=1, max=100, help="Kiosks side by side.")] = 20,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Recorded faces through the real models, much slower.")
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Play the real loop on visitors whose taste is known, and tell what it found of the truth.

    An unfinished folder goes on where it stopped; a finished one only reports.

    Example: pho simulate --visits 2000 --seed 1 --data build/simulated
    """
    flags = {
        "data": as_flag(data),
        "loops.greeting.policy.algorithm": algorithm,
        "loops.greeting.control_share": 0.15,
    }
    settings = load(config, flags)
    if settings.log.address:
        problem = "a simulation owns the clock of its log, and a Kafka has its own"
        raise UsageError(problem, "Leave log.address empty, and name a folder with --data")
    if pixels and drift is not None:
        problem = "recorded visitors have one taste, which does not drift"
        raise UsageError(problem, "Leave out --drift, or --pixels")
    started_s = time.perf_counter()
    with bar("visitors", quiet=as_json) as progress:
        if pixels:
            report, truths = _with_pixels(settings, visits, seed, progress)
        else:
            loop = settings.loop(settings.kiosk.loop)
            plan = Plan(visits, seed, drift, kiosks, loop.config_hash)
            report, truths = _without_pixels(settings, plan, progress)
    seconds = time.perf_counter() - started_s
    if as_json:
        told = {"seed": seed, "drift": drift, **simulation_document(report, truths)}
        print_json({**told, "seconds": round(seconds, 1)})
    else:
        show(report, out)
        show_truth(truths, out)


def _without_pixels(
    settings: Settings, plan: Plan, progress: Progress
) -> tuple[Report, list[Truth]]:
    played = Simulation(settings, plan)
    try:
        played.run(progress)
        return read_report(played.log, 0), read_truth(played.log, played.expected)
    finally:
        played.log.close()


def _with_pixels(
    settings: Settings, visits: int, seed: int, progress: Progress
) -> tuple[Report, list[Truth]]:
    require_vision()
    from producers.recorded import RecordedVisitors
    from serving.demo import Demo, Play

    played = Demo(settings, Play("recorded", seed, visits))
    world = RecordedVisitors(seed, visits, cache=settings.cache)

    def worth(decision_id: str, action_id: str) -> float:
        # A smile is worth 1 and no smile 0 in these recordings (`happy` is above 0.9 or below
        # 0.03), and what was there before is the same for every greeting.
        truth = world.truth(int(decision_id.rpartition("-")[2]))
        chance = world.taste.chance(truth.mood, truth.part, action_id)
        return chance - (truth.mood == "smile")

    try:
        played.run(progress)
        return read_report(played.log, played.pictures_left), read_truth(played.log, worth)
    finally:
        played.log.close()
