"""Commands about streams: topics (list, show, create), dead-letters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from connectors.embedded_log import EmbeddedLog
from connectors.entries import check_stream
from connectors.logs import Log, Row
from schemas.codec import decode
from schemas.errors import RecordError, UsageError
from schemas.operations import SideRecord
from schemas.streams import DEAD_LETTERS, SIDE_STREAMS, STREAMS
from serving.console import AsJson, Config, Data, LogAddress, as_flag, err, out, print_json
from serving.kinesis_opening import (
    IN_ITS_FOLDER,
    create_kinesis_streams,
    is_on_kinesis,
    refuse_kinesis,
)
from serving.opening import kafka_address, open_log, security
from serving.settings import Settings, load

if TYPE_CHECKING:
    from connectors.kafka_topics import Finding

CREATE = "create"
_REPLAYED = "dead-letters"
"""The bookmark: dead letters before it were replayed."""

Streams = Annotated[
    str | None, typer.Option("--streams", help="Only these, with commas.", show_default="all")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(topics)
    app.command("dead-letters")(dead_letters)


def topics(
    stream: Annotated[
        str | None, typer.Argument(help="Show records of this stream; or: create.")
    ] = None,
    last: Annotated[int, typer.Option(min=1, help="How many of its newest records.")] = 5,
    bridged: Annotated[
        bool, typer.Option("--bridged", help="create: to be filled by `pho bridge`.")
    ] = False,
    mend: Annotated[
        bool, typer.Option("--mend", help="create: set what differs in existing topics.")
    ] = False,
    streams: Streams = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List the streams of a log, or the newest records of one; or make its topics or streams.

    `pho topics create` leaves with 1 when an existing topic is not as wanted.

    Example: pho topics decisions --last 1 --data build/demo

    Example: pho topics create --log kafka://localhost:9092/shop

    Example: pho topics create --log kinesis://eu-central-1/shop
    """
    settings = load(config, {"data": as_flag(data), "log.address": log})
    if stream == CREATE:
        _create(settings, chosen(streams), bridged=bridged, mend=mend, as_json=as_json)
        return
    if bridged or mend:
        problem = "--bridged and --mend belong to `pho topics create`"
        raise UsageError(problem, "Write: pho topics create --log kafka://HOST:9092/PREFIX")
    opened = open_log(settings)
    if stream is not None:
        _show_records(opened, stream, last, as_json=as_json)
    else:
        _list_streams(opened, chosen(streams), as_json=as_json)


def chosen(streams: str | None, flag: str = "--streams") -> tuple[str, ...]:
    """Return the streams named by a flag, or all of them.

    Parameters
    ----------
    streams : str or None
        Their names, with commas; None: all.
    flag : str
        How it is called.

    Raises
    ------
    UsageError
        One is none.
    """
    if streams is None:
        return tuple(STREAMS)
    names = tuple(dict.fromkeys(name.strip() for name in streams.split(",") if name.strip()))
    for name in names:
        check_stream(name)
    if not names:
        problem = f"{flag} names none"
        raise UsageError(problem, f"There are {', '.join(STREAMS)}")
    return names


def _create(
    settings: Settings, streams: Sequence[str], *, bridged: bool, mend: bool, as_json: bool
) -> None:
    if is_on_kinesis(settings):
        if bridged or mend:
            problem = "--bridged and --mend are of topics on Kafka"
            raise UsageError(problem, "Leave them out: streams on Kinesis need neither")
        if set(streams) != set(STREAMS):
            problem = "`pho topics create` makes all streams on Kinesis"
            raise UsageError(problem, "Leave --streams out")
        _create_on_kinesis(settings, as_json=as_json)
        return
    address = kafka_address(settings)
    from connectors.kafka_topics import create_topics  # needs a client for Kafka

    kafka = settings.kafka
    report = create_topics(
        address,
        security(settings),
        kafka.partitions,
        kafka.replication or None,
        kafka.retention_days,
        bridged=bridged,
        mend=mend,
        streams=streams,
    )
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        out.print(f"{len(report.created)} topics made at {address}", highlight=False)
        for line in _grouped(report.findings):
            out.print(line, highlight=False, markup=False)
    left = [found for found in report.findings if not found.mended]
    if left and not as_json:
        fixed = {"partitions", "replication"}
        if any(found.setting not in fixed for found in left):
            err.print("do: --mend sets what differs", highlight=False)
        if any(found.setting in fixed for found in left):
            err.print(
                "do: partitions and copies stay as they are; set [kafka] to them, or use "
                "another prefix",
                highlight=False,
            )
    if left:
        raise typer.Exit(1)


def _create_on_kinesis(settings: Settings, *, as_json: bool) -> None:
    report = create_kinesis_streams(settings)
    if as_json:
        print_json(report)
        return
    out.print(f"{len(report['created'])} streams made at {settings.log.address}", highlight=False)
    shards = sum(found["shards"] for found in report["found"])
    modes = ", ".join(sorted({found["mode"].lower() for found in report["found"]}))
    hours = min(found["retention_hours"] for found in report["found"])
    out.print(f"{shards} shards in all, {modes}; records stay {hours} h", highlight=False)


def _grouped(findings: Sequence[Finding]) -> Iterator[str]:
    """Say once what differs in many topics."""
    groups: dict[tuple[str, str, str, bool], list[str]] = {}
    for found in findings:
        what = (found.setting, found.found, found.wanted, found.mended)
        groups.setdefault(what, []).append(found.topic)
    for (setting, is_now, wanted, mended), topics in groups.items():
        done = "; mended" if mended else ""
        yield f"{setting} is {is_now}, wanted {wanted}{done}: {', '.join(topics)}"


def _list_streams(log: Log, streams: Sequence[str], *, as_json: bool) -> None:
    counts = log.counts()
    told = [
        {
            "stream": name,
            "records": counts[name],
            "carries": [kind.__name__ for kind in STREAMS[name].records],
            "keyed_by": STREAMS[name].keyed_by,
            "compacted": STREAMS[name].compacted,
        }
        for name in streams
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


def _show_records(log: Log, stream: str, last: int, *, as_json: bool) -> None:
    check_stream(stream)
    told = [_told(row) for row in log.last(stream, last)]
    if as_json:
        print_json(told)
    else:
        for each in told:
            out.print_json(data=each)


def _told(row: Row) -> dict[str, Any]:
    told: dict[str, Any] = {
        "partition": row.partition,
        "position": row.position,
        "key": row.key,
        "log_time_ms": row.log_time_ms,
    }
    try:
        told["record"] = json.loads(msgspec.json.encode(decode(row.value)))
    except RecordError as error:
        told["error"] = str(error)
    return told


def dead_letters(
    replay: Annotated[
        bool, typer.Option("--replay", help="Append them to their streams once more.")
    ] = False,
    side: Annotated[
        str, typer.Option(help="dead-letters, late or unmatched (these two: list only).")
    ] = DEAD_LETTERS,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List records that could not be handled: where they stood, and why; or try them again.

    In a folder each is replayed once. On Kafka what was replayed is noted after it was appended:
    a crash between the two replays those of that one call once more, which changes nothing, since
    of several records with one id the first holds.

    Example: pho dead-letters --data shop --replay
    """
    if side not in SIDE_STREAMS:
        problem = f"--side {side} is no side output"
        raise UsageError(problem, "Use dead-letters, late or unmatched")
    if replay and side != DEAD_LETTERS:
        problem = f"records in {side} came too late, and would again"
        raise UsageError(problem, "Only dead letters are replayed")
    settings = load(config, {"data": as_flag(data), "log.address": log})
    if replay:
        refuse_kinesis(settings, "dead-letters --replay", IN_ITS_FOLDER)
    opened = open_log(settings)
    rows = list(opened.scan(side))
    marks = opened.bookmark(_REPLAYED) if side == DEAD_LETTERS else {}
    if replay:
        told_count = _replay(opened, rows, marks)
        if as_json:
            print_json(told_count)
        else:
            count = told_count["replayed"]
            out.print(f"{count} replayed; those that fail again come back with a new reason")
            if told_count["unreadable"]:
                out.print(f"{told_count['unreadable']} cannot be: they name no stream of ours")
        return
    told = [_letter(row, _is_replayed(row, marks)) for row in rows]
    if as_json:
        print_json(told)
        return
    table = Table()
    for name in ("position", "from", "reason", "error", "bytes", "replayed"):
        table.add_column(name)
    for each in told:
        source = f"{each['stream']}[{each['offset']}]"
        cells = (each["position"], source, each["reason"], each["error"], each["bytes"])
        table.add_row(*(escape(str(cell)) for cell in cells), "yes" if each["replayed"] else "")
    out.print(table if told else f"nothing in {side}")


def _is_replayed(row: Row, marks: dict[tuple[str, int], int]) -> bool:
    return row.position < marks.get((row.stream, row.partition), 0)


def _replay(log: Log, rows: list[Row], marks: dict[tuple[str, int], int]) -> dict[str, int]:
    fresh = [row for row in rows if not _is_replayed(row, marks)]
    letters = [letter for row in fresh if (letter := _side_record(row)) is not None]
    again = [(each.stream, each.key, each.raw) for each in letters if _goes_back(each)]
    places = {(row.stream, row.partition): row.position + 1 for row in fresh}
    if isinstance(log, EmbeddedLog) and fresh:
        # One transaction: replayed and marked as such, or neither.
        with log.transaction():
            log.write(again)
            log.set_bookmark(_REPLAYED, marks | places)
    elif fresh:
        log.append_bytes(again)
        log.set_bookmark(_REPLAYED, marks | places)
    return {"replayed": len(again), "unreadable": len(fresh) - len(again)}


def _goes_back(letter: SideRecord) -> bool:
    return letter.stream in STREAMS and letter.stream not in SIDE_STREAMS


def _side_record(row: Row) -> SideRecord | None:
    """Return the side record; None: whoever wrote these bytes was not PHO."""
    try:
        letter = decode(row.value)
    except RecordError:
        return None
    return letter if isinstance(letter, SideRecord) else None


def _letter(row: Row, replayed: bool) -> dict[str, Any]:
    letter = _side_record(row)
    if letter is None:
        error = f"no side record: {row.value[:10].hex() or 'nothing'}; somebody else wrote it"
        place = (row.stream, row.partition, row.position, row.log_time_ms)
        letter = SideRecord("unreadable", error, *place, row.key, row.value)
    return {
        "position": row.position,
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
