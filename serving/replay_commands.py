"""Commands that say why: replay, receipt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from connectors.archive import ArchiveReader
from schemas.errors import UsageError
from serving.console import AsJson, Config, Data, LogAddress, as_flag, err, out, print_json
from serving.forgotten import without_erased
from serving.kinesis_opening import IN_ITS_FOLDER, refuse_kinesis
from serving.opening import open_log
from serving.receipt_page import page
from serving.receipt_reading import read_receipt
from serving.replay.running import Replayed, replay
from serving.replay.verdicts import History
from serving.settings import load

Archive = Annotated[Path | None, typer.Option("--archive", help="An archive instead of a log.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command(name="replay")(replay_command)
    app.command()(receipt)


def replay_command(
    data: Data = None,
    log: LogAddress = None,
    archive: Archive = None,
    tolerance_ppb: Annotated[
        int,
        typer.Option(
            "--tolerance-ppb",
            min=0,
            max=1_000,
            help="How far probabilities may differ, in 1e-9; 2 for a log of another machine.",
        ),
    ] = 0,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run the log again: the outcomes, the policies, every decision at its policy's version.

    Leaves with 1 when one of them differs from what the log holds.

    Example: pho replay --data build/demo
    """
    history = _history(data, log, archive, config)
    with err.status("", spinner="line") as status:

        def say(what: str) -> None:
            if not as_json:
                status.update(what)

        told = replay(history, tolerance_ppb, say)
    if as_json:
        print_json(told.document())
    else:
        _show(told)
    if not told.holds:
        raise typer.Exit(1)


def _history(
    data: Path | None, log: str | None, archive: Path | None, config: Path | None
) -> History:
    if archive is None:
        settings = load(config, {"data": as_flag(data), "log.address": log})
        refuse_kinesis(settings, "replay", IN_ITS_FOLDER)
        return without_erased(settings, open_log(settings))
    if data or log:
        problem = "--archive stands beside another log"
        raise UsageError(problem, "Name one: --data, --log or --archive")
    return ArchiveReader(archive)


def _show(told: Replayed) -> None:
    table = Table.grid(padding=(0, 2))
    for verdict in told.verdicts:
        style = "green" if verdict.holds else "red"
        table.add_row(f"[{style}]{verdict.what}[/]", escape(verdict.text))
    out.print(table)
    for verdict in told.verdicts:
        for text in verdict.differences[1:]:
            out.print(f"  {escape(text)}", highlight=False, soft_wrap=True)


def receipt(
    decision_id: Annotated[str, typer.Argument(metavar="ID", help="The decision, or its visit.")],
    data: Data = None,
    log: LogAddress = None,
    archive: Archive = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Tell one decision's whole story: what was known, chosen, shown, seen, and learned from it.

    Leaves with 1 when the log has no such decision.

    Example: pho receipt 3f2a9c --data build/demo
    """
    told = read_receipt(_history(data, log, archive, config), decision_id)
    if as_json:
        print_json(told.document())
    else:
        out.print(page(told))
