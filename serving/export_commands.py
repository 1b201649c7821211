"""The command `pho export`: a log in other tools' formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from connectors.logs import Log
from connectors.tables_schema import TABLES
from policies.evaluation.order import InOrder
from policies.evaluation.records import Logged, RewardRange, has_reward, logged
from schemas.errors import InvalidRecord, UsageError
from schemas.loops import LoopConfigured
from serving.closed_decisions import configurations, loop_named, outcomes_in_order
from serving.console import AsJson, Config, Data, LogAddress, as_flag, out, print_json
from serving.exporting import FORMATS, write_dsjson, write_obp, write_parquet
from serving.exporting_tables import FORMATS as TABLE_FORMATS
from serving.exporting_tables import chosen_tables, write_tables
from serving.forgotten import without_erased
from serving.opening import open_log
from serving.settings import Settings, load
from serving.tables_opening import made_anew

_WRITERS = {"dsjson": write_dsjson, "obp": write_obp, "parquet": write_parquet}


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(export)


def export(
    to: Annotated[Path, typer.Option("--out", help="The file to write.")],
    form: Annotated[
        str, typer.Option("--format", help="dsjson, obp or parquet; with --table csv or parquet.")
    ] = "dsjson",
    table: Annotated[
        str | None, typer.Option("--table", help="Instead: a table for analysts, or all.")
    ] = None,
    loop: Annotated[str | None, typer.Option(help="The loop, where there are several.")] = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Write decisions with their rewards as VowpalWabbit, obp or a table has them.

    With --table a table of `pho tables`: visits, decisions, outcomes, greetings_daily,
    policy_history; of all, --out is a folder.

    Example: pho export --format dsjson --out log.dsjson --data build/demo
    """
    if table is not None:
        settings = load(config, {"data": as_flag(data), "log.address": log})
        _export_tables(settings, table, form, to, loop, as_json=as_json)
        return
    if form == "csv":
        problem = "--format csv is for the tables"
        raise UsageError(problem, f"Name one with --table: {', '.join(TABLES)}, or all")
    if form not in _WRITERS:
        problem = f"--format {form} is none of ours"
        raise UsageError(problem, f"Use {', '.join(FORMATS)}")
    if not to.parent.is_dir():
        problem = f"there is no folder {to.parent}"
        raise UsageError(problem, "Make it first, or name another with --out")
    settings = load(config, {"data": as_flag(data), "log.address": log})
    source = without_erased(settings, open_log(settings))
    chosen = loop_named(configurations(source), loop)
    left_out: Counter[str] = Counter()
    written = _WRITERS[form](records(source, chosen, left_out), chosen.feature_names, to)
    source.close()
    if as_json:
        told = {"file": str(to), "format": form, "decisions": written}
        print_json({**told, "loop": chosen.loop_id, "left_out": dict(left_out)})
        return
    out.print(f"{written:,} decisions of loop {chosen.loop_id} in {to}", highlight=False)
    for reason, number in left_out.items():
        out.print(f"left out: {number:,} {reason}", highlight=False)


def _export_tables(
    settings: Settings, name: str, form: str, to: Path, loop: str | None, *, as_json: bool
) -> None:
    chosen = chosen_tables(name)
    if form not in TABLE_FORMATS:
        problem = f"--format {form} does not take a table"
        raise UsageError(problem, f"Use {' or '.join(TABLE_FORMATS)}")
    if loop is not None:
        problem = "--loop and --table contradict each other"
        raise UsageError(problem, "The tables hold all loops: filter by their column loop_id")
    if not to.parent.is_dir():
        problem = f"there is no folder {to.parent}"
        raise UsageError(problem, "Make it first, or name another with --out")
    source = open_log(settings)
    try:
        with made_anew(settings, source) as tables:
            written = write_tables(tables, chosen, form, to)
    finally:
        source.close()
    if as_json:
        print_json({"format": form, "files": {str(path): rows for path, rows in written.items()}})
        return
    for path, rows in written.items():
        out.print(f"{rows:,} rows in {path}", highlight=False, soft_wrap=True)


def records(log: Log, config: LoopConfigured, left_out: Counter[str]) -> Iterator[Logged]:
    """Yield a loop's decisions with a reward, in their order; count what is left out.

    Parameters
    ----------
    log : Log
        The log.
    config : LoopConfigured
        The loop.
    left_out : Counter
        Filled with the number left out by reason.
    """
    rewards = RewardRange(config.rules.reward_low, config.rules.reward_high)
    order = InOrder()
    for outcome in outcomes_in_order(log, config.loop_id, order):
        if not has_reward(outcome):
            left_out["without a reward"] += 1
            continue
        try:
            yield logged(outcome, rewards)
        except InvalidRecord:
            left_out["refused: probabilities or reward"] += 1
    if order.unreadable:
        left_out["refused: no record of ours, or impossible"] += order.unreadable
    if waiting := order.open + order.behind:
        left_out["open, or behind an open one"] += waiting
