"""Tables for analysts: pho tables."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from connectors.tables_contract import Steps
from connectors.tables_feed import Fed
from schemas.errors import LogUnavailable, TablesDown, UsageError
from serving.console import AsJson, Config, Data, LogAddress, as_flag, err, out, print_json
from serving.crashes import crash_steps
from serving.opening import open_log
from serving.settings import Settings, load
from serving.stopping import Stop, stop_on_signals
from serving.tables_check import Checked, check
from serving.tables_opening import feed_for, open_tables

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
_STEADY_S = 60.0

tables_app = typer.Typer(
    help="Keep tables for analysts.\n\nExample: pho tables --to parquet --data shop",
    invoke_without_command=True,
    no_args_is_help=False,
)

To = Annotated[
    str | None,
    typer.Option("--to", help="sqlite, parquet, postgres or dynamodb.", show_default="sqlite"),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="File of SQLite, or folder of Parquet.", show_default="in --data"),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(tables_app, name="tables")


@tables_app.callback()
def tables(
    context: typer.Context,
    to: To = None,
    place: Out = None,
    follow: Annotated[
        bool, typer.Option("--follow/--once", help="Go on with what comes, or leave.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(help="Stop following after so long.")] = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Bring the tables visits, decisions, outcomes, greetings_daily and policy_history up to date.

    May be ended at any time: the next run goes on where it stopped. The address of a Postgres is
    the setting tables.postgres, or the variable PHO_TABLES__POSTGRES.

    Example: pho tables --to postgres --follow --data shop
    """
    if context.invoked_subcommand is not None:
        return
    if seconds is not None and not follow:
        problem = "--seconds says how long to follow, and nothing is followed"
        raise UsageError(problem, "Add --follow")
    settings = load(config, {"data": as_flag(data), "log.address": log})
    stop = stop_on_signals(seconds) if follow else None
    if to == "dynamodb":
        _keep_dynamodb(settings, place, stop, as_json=as_json)
        return
    done = _Keeping(settings, to, place, crash_steps(settings.crash_at)).run(stop)
    if as_json:
        print_json(done)
        return
    rows = ", ".join(f"{count:,} {name}" for name, count in done["rows"].items())
    out.print(f"{escape(done['place'])}: {rows}", highlight=False, soft_wrap=True)
    _show_odd(done)


def _keep_dynamodb(
    settings: Settings, place: Path | None, stop: Stop | None, *, as_json: bool
) -> None:
    from serving.dynamodb_keeping import keep_dynamodb

    if place is not None:
        problem = f"--out {place} names a file, and DynamoDB has tables"
        raise UsageError(problem, "Set aws.tables, with which their names begin")
    done = keep_dynamodb(settings, stop)
    if as_json:
        print_json(done)
        return
    text = f"{done['place']}: {done['new']:,} new items, {done['held']:,} were there"
    out.print(escape(text), highlight=False, soft_wrap=True)
    if done["erased"]:
        out.print(f"{done['erased']:,} of forgotten persons left out or deleted", highlight=False)


def _show_odd(done: dict[str, Any]) -> None:
    told = {
        "unreadable": "records could not be read: see pho dead-letters",
        "late": "decisions came so late that they are none",
        "forgotten": "records of forgotten persons left out",
    }
    for name, text in told.items():
        if done[name]:
            err.print(f"{done[name]:,} {text}", highlight=False)
    if done["lost"]:
        places = ", ".join(done["lost"])
        text = f"the log dropped records before they were read, in {places}: run it more often"
        err.print(f"[yellow]{escape(text)}[/]", highlight=False, soft_wrap=True)


class _Keeping:
    """Keeps tables up to date, through a server's restarts."""

    def __init__(
        self, settings: Settings, kind: str | None, place: Path | None, steps: Steps
    ) -> None:
        self._settings = settings
        self._kind = kind
        self._place = place
        self._steps = steps
        self._fed = Fed()

    def run(self, stop: Stop | None) -> dict[str, Any]:
        """Keep them until it is told to stop; None: bring them up to date once."""
        wait_s, said = _FIRST_WAIT_S, False
        while True:
            begin_s = time.monotonic()
            try:
                return self._once(stop)
            except (TablesDown, LogUnavailable) as error:
                # Nothing is lost meanwhile: it stands in the log, and the tables know their place.
                if stop is None or (
                    isinstance(error, LogUnavailable) and not self._settings.log.address
                ):
                    raise
                if time.monotonic() - begin_s > _STEADY_S:
                    wait_s, said = _FIRST_WAIT_S, False
                if not said:
                    text = f"{error.problem}; trying again until it is back"
                    err.print(escape(text), highlight=False, soft_wrap=True)
                    said = True
                if stop.wait(wait_s):
                    raise
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def _once(self, stop: Stop | None) -> dict[str, Any]:
        log = open_log(self._settings)
        try:
            opened = open_tables(self._settings, self._kind, self._place)
            try:
                if stop is not None:
                    text = f"keeping tables in {opened.name}; stop it with Ctrl-C"
                    err.print(escape(text), highlight=False, soft_wrap=True)
                feed_for(self._settings, log, opened, self._steps, fed=self._fed).run(stop)
                # asdict makes a Counter of a Counter's pairs.
                told = asdict(self._fed) | {"records": dict(self._fed.records)}
                return {"place": opened.name, "rows": opened.counts(), **told}
            finally:
                opened.close()
        finally:
            log.close()


@tables_app.command("check")
def check_command(
    to: To = None,
    place: Out = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Make the tables anew from the log and compare, row by row; 1: they do not add up.

    Example: pho tables check --data shop
    """
    settings = load(config, {"data": as_flag(data), "log.address": log})
    opened_log = open_log(settings)
    try:
        opened = open_tables(settings, to, place, reads_only=True)
        try:
            found = check(settings, opened_log, opened)
        finally:
            opened.close()
    finally:
        opened_log.close()
    if as_json:
        print_json({"place": opened.name, "equal": found.equal, **asdict(found)})
    else:
        _show(opened.name, found)
    if not found.equal:
        raise typer.Exit(1)


def _show(name: str, found: Checked) -> None:
    shown = Table(box=None, pad_edge=False)
    columns = ("rows", "same", "missing", "extra", "different", "older")
    for title in ("table", *columns):
        shown.add_column(title, justify="left" if title == "table" else "right")
    for table, compared in found.tables.items():
        shown.add_row(table, *(f"{getattr(compared, column):,}" for column in columns))
    out.print(shown)
    for table, compared in found.tables.items():
        for each in compared.such_as:
            out.print(escape(f"{table}: {each}"), highlight=False, soft_wrap=True)
    if found.not_taken_out:
        text = f"{found.not_taken_out:,} forgotten ids are not taken out yet: pho tables"
        out.print(text, highlight=False)
    verdict = "[green]equal[/]" if found.equal else "[red]differs[/]"
    out.print(f"{verdict}  {escape(name)}", highlight=False, soft_wrap=True)
    _show_waiting(found, err.print)


def _show_waiting(found: Checked, say: Callable[..., None]) -> None:
    if found.behind:
        say(f"{found.behind:,} newer records are not read yet: pho tables", highlight=False)
    if found.waiting:
        say(f"{found.waiting:,} days are not counted yet: pho tables", highlight=False)
