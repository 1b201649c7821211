"""Commands that look after it: ledger, topics, schemas, dead-letters, loops, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from connectors.embedded_log import EmbeddedLog
from connectors.logs import Row
from engines.job import hashes_in_force
from schemas.codec import current, decode, released
from schemas.derive import avro_schema, without_docs
from schemas.errors import RecordError, UsageError
from schemas.operations import SideRecord
from schemas.streams import DEAD_LETTERS, RECORDS, STREAMS
from serving import checkup
from serving.console import AsJson, Config, Data, as_flag, err, open_existing, out, print_json
from serving.ledger import read_ledger
from serving.settings import load

_REPLAYED = "dead_letters.replayed"
_SCHEMA_FOLDER = Path("schemas") / "avro"


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(ledger)
    app.command()(topics)
    app.command()(schemas)
    app.command("dead-letters")(dead_letters)
    app.command()(loops)
    app.command()(doctor)


def ledger(data: Data = None, config: Config = None, as_json: AsJson = False) -> None:
    """Add up: decisions = rewarded + defaulted + dropped + not activated + open.

    Leaves with 1 when it does not add up.

    Example: pho ledger --data build/demo
    """
    settings = load(config, {"data": as_flag(data)})
    book = read_ledger(open_existing(settings))
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


def topics(
    stream: Annotated[str | None, typer.Argument(help="Show records of this stream.")] = None,
    last: Annotated[int, typer.Option(min=1, help="How many of its newest records.")] = 5,
    data: Data = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List the streams of a log, or the newest records of one.

    Example: pho topics decisions --last 1 --data build/demo
    """
    log = open_existing(load(config, {"data": as_flag(data)}))
    if stream is not None:
        _show_records(log, stream, last, as_json=as_json)
        return
    counts = log.counts()
    told = [
        {
            "stream": name,
            "records": counts[name],
            "carries": [kind.__name__ for kind in STREAMS[name].records],
            "keyed_by": STREAMS[name].keyed_by,
            "compacted": STREAMS[name].compacted,
        }
        for name in STREAMS
    ]
    if as_json:
        print_json(told)
        return
    table = Table()
    for name in ("stream", "records", "carries", "keyed by"):
        table.add_column(name, justify="right" if name == "records" else "left")
    for each in told:
        carries = ", ".join(each["carries"])  # type: ignore[arg-type]
        keyed_by = str(each["keyed_by"])
        table.add_row(str(each["stream"]), f"{each['records']:,}", carries, keyed_by)
    out.print(table)


def _show_records(log: EmbeddedLog, stream: str, last: int, *, as_json: bool) -> None:
    if stream not in STREAMS:
        problem = f"there is no stream {stream!r}"
        raise UsageError(problem, f"There are {', '.join(STREAMS)}")
    told = [_told(row) for row in log.last(stream, last)]
    if as_json:
        print_json(told)
    else:
        for each in told:
            out.print_json(data=each)


def _told(row: Row) -> dict[str, Any]:
    told: dict[str, Any] = {
        "position": row.position,
        "key": row.key,
        "log_time_ms": row.log_time_ms,
    }
    try:
        told["record"] = json.loads(msgspec.json.encode(decode(row.value)))
    except RecordError as error:
        told["error"] = str(error)
    return told


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


def dead_letters(
    replay: Annotated[
        bool, typer.Option("--replay", help="Append them to their streams once more.")
    ] = False,
    side: Annotated[
        str, typer.Option(help="dead-letters, late or unmatched (these two: list only).")
    ] = DEAD_LETTERS,
    data: Data = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List records that could not be handled: where they stood, and why; or try them again.

    Example: pho dead-letters --data shop --replay
    """
    log = open_existing(load(config, {"data": as_flag(data)}))
    if side not in ("dead-letters", "late", "unmatched"):
        problem = f"--side {side} is no side output"
        raise UsageError(problem, "Use dead-letters, late or unmatched")
    if replay and side != DEAD_LETTERS:
        problem = f"records in {side} came too late, and would again"
        raise UsageError(problem, "Only dead letters are replayed")
    letters = [(row.position, decode(row.value)) for row in log.scan(side)]
    replayed_through = int(log.fact(_REPLAYED))
    if replay:
        fresh = [(at, letter) for at, letter in letters if at > replayed_through]
        _replay(log, fresh)
        told_count = {"replayed": len(fresh)}
        if as_json:
            print_json(told_count)
        else:
            out.print(f"{len(fresh)} replayed; those that fail again come back with a new reason")
        return
    told = [_letter(at, letter, at <= replayed_through) for at, letter in letters]
    if as_json:
        print_json(told)
        return
    table = Table()
    for name in ("position", "from", "reason", "error", "bytes", "replayed"):
        table.add_column(name)
    for each in told:
        source = f"{each['stream']}[{each['offset']}]"
        row = (each["position"], source, each["reason"], each["error"], each["bytes"])
        table.add_row(*(escape(str(cell)) for cell in row), "yes" if each["replayed"] else "")
    out.print(table if told else f"nothing in {side}")


def _replay(log: EmbeddedLog, letters: list[tuple[int, SideRecord]]) -> None:
    # One transaction: replayed and marked as such, or neither.
    if letters:
        with log.transaction():
            log.write([(letter.stream, letter.key, letter.raw) for _, letter in letters])
            log.set_fact(_REPLAYED, letters[-1][0])


def _letter(position: int, letter: SideRecord, replayed: bool) -> dict[str, Any]:
    return {
        "position": position,
        "stream": letter.stream,
        "partition": letter.partition,
        "offset": letter.offset,
        "log_time_ms": letter.log_time_ms,
        "key": letter.key,
        "reason": letter.reason,
        "error": letter.error,
        "bytes": len(letter.raw),
        "raw_hex": letter.raw[:64].hex(),
        "replayed": replayed,
    }


def loops(data: Data = None, config: Config = None, as_json: AsJson = False) -> None:
    """List the loops that are configured, and whether the log knows them so.

    Example: pho loops --data shop
    """
    settings = load(config, {"data": as_flag(data)})
    in_log = {}
    if (settings.data / "pho.db").exists():
        in_log = hashes_in_force(open_existing(settings))
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
    data: Data = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Check that everything PHO needs is here and whole.

    Leaves with 3 when something is missing, with 1 when something is broken.

    Example: pho doctor --fetch
    """
    settings = load(config, {"data": as_flag(data)})
    if fetch:
        checkup.fetch(settings, quiet=as_json)
    findings = checkup.examine(settings)
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
