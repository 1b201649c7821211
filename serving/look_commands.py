"""Commands that look at it: ledger, schemas, loops, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from connectors.embedded_log import FILE_NAME
from engines.job import hashes_in_force
from schemas.codec import current, released
from schemas.derive import avro_schema, without_docs
from schemas.errors import UsageError
from schemas.streams import RECORDS
from serving import checkup
from serving.console import AsJson, Config, Data, LogAddress, as_flag, err, out, print_json
from serving.findings import Finding
from serving.forgotten import without_erased
from serving.ledger import read_ledger
from serving.opening import open_log
from serving.settings import Settings, load

_SCHEMA_FOLDER = Path("schemas") / "avro"


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(ledger)
    app.command()(schemas)
    app.command()(loops)
    app.command()(doctor)


def ledger(
    data: Data = None, log: LogAddress = None, config: Config = None, as_json: AsJson = False
) -> None:
    """Add up: decisions = rewarded + defaulted + dropped + not activated + open.

    Leaves with 1 when it does not add up.

    Example: pho ledger --data build/demo
    """
    settings = load(config, {"data": as_flag(data), "log.address": log})
    book = read_ledger(without_erased(settings, open_log(settings)))
    if as_json:
        print_json(book.document())
    else:
        table = Table(show_header=False)
        table.add_column(justify="right")
        table.add_column()
        for name, value in book.document().items():
            if name not in ("balanced", "problems"):
                table.add_row(f"{value:,}", name.replace("_", " "))
        out.print(table)
        out.print("[green]balanced[/]" if book.balanced else "[red]does not add up[/]")
        for problem in book.problems[:20]:
            out.print(f"  {escape(problem)}", highlight=False)
    if not book.balanced:
        raise typer.Exit(1)


def schemas(
    record: Annotated[str | None, typer.Argument(help="Print this record's schema.")] = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Write a new version of records that changed (developers)."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List every schema ever released, or print one.

    Example: pho schemas DecisionMade
    """
    if write:
        _write_schemas()
        return
    if record is not None:
        if record not in RECORDS:
            problem = f"there is no record {record!r}"
            raise UsageError(problem, f"There are {', '.join(RECORDS)}")
        out.out(current(record).text, highlight=False, end="")
        return
    entries = sorted(released().values(), key=lambda entry: (entry.name, entry.version))
    told = [
        {"record": e.name, "version": e.version, "fingerprint": e.header[2:].hex()} for e in entries
    ]
    if as_json:
        print_json(told)
        return
    table = Table()
    for name in ("record", "version", "fingerprint"):
        table.add_column(name)
    for each in told:
        table.add_row(*map(str, each.values()))
    out.print(table)


def _write_schemas() -> None:
    if not _SCHEMA_FOLDER.is_dir():
        problem = f"there is no folder {_SCHEMA_FOLDER} here"
        raise UsageError(problem, "Start it in PHO's own source folder")
    for name, kind in RECORDS.items():
        schema = avro_schema(kind)
        files = sorted(_SCHEMA_FOLDER.glob(f"{name}.v*.avsc"), key=_version)
        if files:
            newest = json.loads(files[-1].read_text(encoding="utf-8"))
            if without_docs(newest) == without_docs(schema):
                continue
        text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        version = _version(files[-1]) + 1 if files else 1
        path = _SCHEMA_FOLDER / f"{name}.v{version}.avsc"
        path.write_text(text, encoding="utf-8")
        err.print(f"wrote {path}", highlight=False)


def _version(path: Path) -> int:
    return int(path.name.split(".v")[1].removesuffix(".avsc"))


def loops(
    data: Data = None, log: LogAddress = None, config: Config = None, as_json: AsJson = False
) -> None:
    """List the loops that are configured, and whether the log knows them so.

    Example: pho loops --data shop
    """
    settings = load(config, {"data": as_flag(data), "log.address": log})
    in_log = {}
    if settings.log.address or (settings.data / FILE_NAME).exists():
        in_log = hashes_in_force(open_log(settings))
    told = []
    for loop in settings.loops:
        known_hash = in_log.get(loop.loop_id)
        state = "not in the log yet" if known_hash is None else "in force"
        if known_hash is not None and known_hash != loop.config_hash:
            state = "changed; in force from the next start of the job"
        told.append(
            {
                "loop": loop.loop_id,
                "state": state,
                "config_hash": loop.config_hash,
                "policy": loop.serving.algorithm,
                "actions": list(loop.action_ids),
                "baseline": loop.baseline_id,
                "control_share": loop.control_share_ppb / 1e9,
                "floor": loop.floor_ppb / 1e9,
                "features": list(loop.feature_names),
                "reward_window_ms": loop.rules.reward_window_ms,
            }
        )
    if as_json:
        print_json(told)
        return
    for each in told:
        table = Table(title=str(each["loop"]), title_justify="left", show_header=False)
        for name, value in each.items():
            shown = ", ".join(value) if isinstance(value, list) else str(value)
            table.add_row(name.replace("_", " "), shown)
        out.print(table)


def doctor(
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch missing models and recordings first.")
    ] = False,
    fetch_kafka: Annotated[
        bool,
        typer.Option(
            "--fetch-kafka",
            help="Fetch the jars of a Kafka broker and of Flink first, and a Java if none is here.",
        ),
    ] = False,
    fetch_aws: Annotated[
        bool,
        typer.Option("--fetch-aws", help="Fetch the local Kinesis of `make demo-aws` first."),
    ] = False,
    fetch_pages: Annotated[
        bool,
        typer.Option(
            "--fetch-pages",
            help="Fetch the chart library and the edge analysis of the pages first.",
        ),
    ] = False,
    aws: Annotated[
        bool,
        typer.Option("--aws", help="Try every service of AWS that the settings use, and no more."),
    ] = False,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Check that everything PHO needs is here and whole.

    Leaves with 3 when something is missing, with 1 when something is broken.

    Example: pho doctor --fetch
    """
    settings = load(config, {"data": as_flag(data), "log.address": log})
    if fetch:
        checkup.fetch(settings, quiet=as_json)
    if fetch_kafka:
        checkup.fetch_kafka(settings, quiet=as_json)
    if fetch_aws:
        checkup.fetch_aws(settings, quiet=as_json)
    if fetch_pages:
        checkup.fetch_pages(settings, quiet=as_json)
    findings = _findings(settings, aws=aws)
    if as_json:
        print_json([msgspec.to_builtins(finding) for finding in findings])
    else:
        marks = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "broken": "[red]broken[/]"}
        for finding in findings:
            text = escape(f"{finding.what}: {finding.text}")
            out.print(f"{marks[finding.state]}  {text}", highlight=False)
            if finding.cure:
                out.print(f"      do: {escape(finding.cure)}", highlight=False)
    states = {finding.state for finding in findings}
    if "broken" in states:
        raise typer.Exit(1)
    if "missing" in states:
        raise typer.Exit(3)


def _findings(settings: Settings, *, aws: bool) -> list[Finding]:
    if not aws:
        return checkup.examine(settings)
    from serving import aws_checkup

    return aws_checkup.examine(settings)
