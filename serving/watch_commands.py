"""pho watch: an alarm when what a loop earns shifts, or something stands in its way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape

from connectors.clocks import WallClock
from connectors.embedded_log import EmbeddedLog
from engines.job import StopFlag
from schemas.checks import PPB
from schemas.errors import PhoError, UsageError
from schemas.operations import AlarmRaised, EstimateMade
from serving.console import AsJson, Config, Data, LogAddress, as_flag, err, out, print_json
from serving.kinesis_opening import IN_ITS_FOLDER, refuse_kinesis
from serving.loop_watch import Found, Watching
from serving.opening import open_log
from serving.settings import Settings, load
from serving.stopping import stop_on_signals
from serving.watching import Watch


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(watch)


def watch(
    once: Annotated[bool, typer.Option("--once", help="Read what there is, then leave.")] = False,
    explore: Annotated[
        float | None,
        typer.Option("--explore", help="Floor that an alarm widens exploration to, 0 to 1."),
    ] = None,
    outcomes: Annotated[
        int, typer.Option("--for", min=1, help="Outcomes until the floor goes back.")
    ] = 1_000,
    estimates: Annotated[
        bool, typer.Option("--estimates", help="Tell also what each policy earns.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Watch reward and residual of every loop; a shift is an alarm in the stream `alarms`.

    So are dead letters, a budget that is used up, and an analyser that fails. With --once it
    leaves with 1 when it raised an alarm. With --estimates what each policy earns is told every
    200 decisions, as records in `estimates`.

    Example: pho watch --explore 0.3 --data shop
    """
    if explore is not None and not 0.0 < explore <= 1.0:
        problem = f"--explore {explore} is no share"
        raise UsageError(problem, "Give above 0 to 1: 0.3 spreads 30 % evenly over all actions")
    settings = load(config, {"data": as_flag(data), "log.address": log})
    refuse_kinesis(settings, "watch", IN_ITS_FOLDER)
    opened = open_log(settings)
    floor_ppb = None if explore is None else round(explore * PPB)
    found: list[Found] = []

    def tell(each: Found) -> None:
        found.append(each)
        if not as_json:
            out.print(escape(told(each)), highlight=False)

    stop = None if once else stop_on_signals(seconds)
    if not once:
        err.print(f"watching {opened.name}; stop it with Ctrl-C", highlight=False)
    how = Watching(floor_ppb, outcomes, estimates=estimates)
    Watch(opened, how, tell).run(stop)
    if as_json:
        print_json([_document(each) for each in found])
    elif once and not found:
        out.print("nothing new", highlight=False)
    if once and any(isinstance(each, AlarmRaised) for each in found):
        raise typer.Exit(1)


def told(found: Found) -> str:
    """Return what was found in a line."""
    if isinstance(found, AlarmRaised):
        numbers = {each.name: each.value for each in found.numbers}
        measured = ", ".join(
            f"{value:,.0f} {name.replace('_', ' ')}" for name, value in numbers.items()
        )
        if "before" in numbers:
            measured = f"from {numbers['before']:+.3f} to {numbers['after']:+.3f}"
        return (
            f"alarm {found.alarm_id}: {found.kind} in loop {found.loop_id}, "
            f"{measured} ({found.detector})"
        )
    if isinstance(found, EstimateMade):
        interval = f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
        return f"estimate of {found.policy_id} by {found.method}: {interval}, {found.n:,} decisions"
    floor = (found.floor_ppb or 0) / PPB
    return f"directive {found.directive_id}: floor of {found.policy_id} is {floor:.0%} from now on"


def _document(found: Found) -> dict[str, Any]:
    document: dict[str, Any] = {"record": type(found).__name__}
    document.update(msgspec.to_builtins(found, builtin_types=(bytes,)))
    return document


@contextmanager
def watching_beside(settings: Settings, stop: StopFlag) -> Iterator[None]:
    """Watch a folder's log in a thread, beside the job that runs on it.

    The watcher must not stop the job: what goes wrong there is said, and the job goes on.
    """

    def work() -> None:
        try:
            file = EmbeddedLog(settings.data, WallClock(), settings.log.synchronous)
            try:
                say = lambda found: err.print(escape(told(found)), highlight=False)  # noqa: E731
                Watch(file, Watching(), say).run(stop)
            finally:
                file.close()
        except PhoError as error:
            err.print(f"[yellow]nobody watches any more[/]: {escape(str(error))}", highlight=False)

    thread = threading.Thread(target=work, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(timeout=5.0)
