"""Commands for history: archive, backfill."""

from __future__ import annotations

import logging
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from connectors.archive_sources import until_ms
from connectors.archive_writer import Archiver
from schemas.errors import ResourceError, UsageError
from serving.console import AsJson, Config, Data, LogAddress, as_flag, err, out, print_json
from serving.crashes import crash_steps
from serving.forgotten import erased_in
from serving.kinesis_opening import IN_ITS_FOLDER, refuse_kinesis
from serving.opening import open_log
from serving.settings import load

BEAM_CURE = "Install the extra, in an environment of its own: pip install 'pho[beam]'"

ArchiveFolder = Annotated[Path, typer.Option("--archive", help="Folder of the archive.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(archive)
    app.command()(backfill)


def archive(
    archive: ArchiveFolder,
    until: Annotated[
        str,
        typer.Option(help="A day such as 2026-11-21, or now.", show_default="days that are over"),
    ] = "",
    codec: Annotated[str, typer.Option(help="deflate or zstandard.")] = "deflate",
    tables: Annotated[
        bool, typer.Option("--tables/--no-tables", help="Parquet beside it, for analysts.")
    ] = True,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Bring an archive of the log up to date: Avro files by day, and Parquet.

    May be interrupted at any time; the next run goes on where it stopped.

    Example: pho archive --archive archive --data shop
    """
    settings = load(config, {"data": as_flag(data), "log.address": log})
    if codec not in ("deflate", "zstandard"):
        problem = f"--codec {codec} is none of ours"
        raise UsageError(problem, "Use deflate or zstandard")
    refuse_kinesis(settings, "archive", IN_ITS_FOLDER)
    source = open_log(settings)
    steps, erased = crash_steps(settings.crash_at), erased_in(settings, source)
    archiver = Archiver(source, archive, codec, tables=tables, steps=steps, erased=erased)
    if tables and not archiver.tables and not as_json:
        err.print("no Parquet: pyarrow is not installed (extra: beam)", highlight=False)
    done = archiver.run(until_ms(until, source))
    source.close()
    if as_json:
        print_json(asdict(done))
        return
    days = f", {done.days[0]} to {done.days[-1]}" if done.days else ""
    out.print(f"{done.rows:,} records in {done.parts} files{days}", highlight=False)
    if done.adopted:
        out.print(f"{done.adopted} files of an interrupted run taken over", highlight=False)
    if done.erased:
        out.print(f"{done.erased} records of forgotten persons taken out", highlight=False)


def backfill(
    archive: ArchiveFolder,
    into: Annotated[Path, typer.Option("--out", help="A new folder for what is rebuilt.")],
    runner: Annotated[str, typer.Option(help="A Beam runner.")] = "DirectRunner",
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    option: Annotated[
        list[str] | None, typer.Option(help="An option of Beam, such as --flink_master=HOST:8081.")
    ] = None,
    tables: Annotated[
        bool, typer.Option("--tables/--no-tables", help="Parquet, too, for analysts.")
    ] = True,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the archived outcomes; 1: they differ.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rebuild the outcomes of an archive, in parallel.

    Example: pho backfill --archive archive --out rebuilt --workers 2 --check
    """
    if find_spec("apache_beam") is None:
        problem = "backfill needs Beam, which is not installed"
        raise ResourceError(problem, BEAM_CURE)
    # Beam warns at its import of clouds that nobody asked for.
    logging.getLogger().setLevel(logging.ERROR)
    from engines.beam import backfill as beam

    done = beam.backfill(archive, into, runner, workers, tables=tables, options=option or ())
    found = beam.compare(archive, into) if check else None
    if as_json:
        told = asdict(done)
        if found is not None:
            told["check"] = {**asdict(found), "equal": found.equal}
        print_json(told)
    else:
        written = ", ".join(f"{count:,} {name}" for name, count in sorted(done.counts.items()))
        rate = done.rows / done.seconds
        text = f"{written or 'nothing'} from {done.rows:,} records of {done.keys:,} decisions"
        out.print(f"{text}; {done.seconds:.1f} s, {rate:,.0f} a second", highlight=False)
        if found is not None:
            _show(found.same, found.different, found.missing, found.ahead)
    if found is not None and not found.equal:
        raise typer.Exit(1)


def _show(same: int, different: tuple[str, ...], missing: tuple[str, ...], ahead: int) -> None:
    verdict = "[red]differs[/]" if different or missing else "[green]equal[/]"
    text = f"{same:,} the same, {len(different)} other, {len(missing)} missing, {ahead} ahead"
    out.print(f"{verdict}  {text}", highlight=False)
    for decision_id in (*different, *missing)[:20]:
        out.print(f"  {escape(decision_id)}", highlight=False)
