"""Commands for a log on Kafka or Kinesis: ticks, bridge."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Annotated

import typer
from rich.markup import escape

from connectors.bridge import Bridge
from connectors.bridge_sources import BridgeSource
from connectors.clocks import WallClock
from connectors.pictures import PICTURES
from engines.job import StopFlag
from pipelines.topology import PICTURE_TTL_MS, tick_tail_ms
from schemas.errors import PhoError
from serving.bridging import Bridging, Copies, open_source
from serving.console import AsJson, Config, Data, LogAddress, as_flag, bar, err, out, print_json
from serving.kinesis_opening import connect_kinesis, is_on_kinesis, wait_for_kinesis
from serving.opening import connect_kafka, hasty, open_log, registry_format, wait_for_topics
from serving.services import open_pictures
from serving.settings import Settings, load
from serving.stopping import stop_on_signals
from serving.topic_commands import Streams, chosen


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(ticks)
    app.command()(bridge)


def ticks(
    log: LogAddress = None,
    data: Data = None,
    streams: Streams = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    config: Config = None,
) -> None:
    """Let time pass in a log on Kafka: append Ticks where nothing else comes.

    One is enough, two do no harm. It also removes pictures older than a minute from the folder
    of --data. With --streams it leaves out the topics that a bridge fills and ticks itself.

    Example: pho ticks --log kafka://localhost:9092/shop
    """
    settings = load(config, {"data": as_flag(data), "log.address": log})
    stop = stop_on_signals(seconds)
    # While a broker is away the ticker has nothing to keep: it only waits, and says so soon.
    settings = hasty(settings)
    with closing(connect_kafka(settings)) as client, closing(open_log(settings)) as opened:
        from connectors.kafka_log import TICKED_STREAMS
        from engines.ticker import Ticker, longest_tail_ms

        ticked = tuple(stream for stream in TICKED_STREAMS if stream in chosen(streams))
        if not wait_for_topics(settings, ticked, "LogAppendTime", stop, _say):
            return
        ticker = Ticker(
            client,
            lambda: longest_tail_ms(opened, settings.loops),
            registry_format(settings),
            streams=ticked,
        )
        _say(f"ticks go to {opened.name}; stop with Ctrl-C")
        ticker.run(stop, _say, lambda: _sweep(settings))
    _say(f"stopped after {ticker.ticks} Ticks")


def _sweep(settings: Settings) -> None:
    """Remove pictures that lived too long; which are waited for, only the job could say."""
    in_folder = settings.pictures.store == "folder"
    if in_folder and not (settings.data / PICTURES).is_dir():
        return
    try:
        pictures = open_pictures(settings)
        pictures.sweep(WallClock()(), pictures.ids(), PICTURE_TTL_MS)
    except PhoError as error:
        _say(str(error))


def _say(line: str) -> None:
    err.print(escape(line), highlight=False, soft_wrap=True)


def bridge(
    source: Annotated[
        str,
        typer.Option("--from", help="Folder of a log or an archive, kafka://… or kinesis://…."),
    ],
    log: LogAddress = None,
    streams: Streams = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what comes, until stopped.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Copy a folder's log, an archive, Kafka or Kinesis to Kafka or Kinesis; log times are kept.

    Started again it goes on where it stopped: each record arrives exactly once. Topics are made
    by `pho topics create --bridged`, streams by `pho topics create`.

    Example: pho bridge --from shop --log kafka://localhost:9092/shop

    Example: pho bridge --from kinesis://eu-central-1/shop --log kafka://localhost:9092/shop
    """
    settings = load(config, {"log.address": log})
    names = chosen(streams)
    stop = stop_on_signals(seconds)
    started_s = time.monotonic()
    with (
        ExitStack() as opened,
        bar("records", quiet=as_json) as moved,
    ):
        copied_from = opened.enter_context(closing(open_source(source, settings, follow=follow)))
        target = _target(settings, names, copied_from, stop, opened)
        if target is None:
            return
        tail_ms = max(tick_tail_ms(loop.rules) for loop in settings.loops)
        bridging = Bridging(target, copied_from, moved, tail_ms)
        bridging.run(stop, _say, follow=follow)
    took_s = max(time.monotonic() - started_s, 1e-3)
    told = {
        "read": bridging.read,
        "copied": bridging.copied,
        "seconds": round(took_s, 1),
        "copied_per_second": round(bridging.copied / took_s),
    }
    if as_json:
        print_json(told)
    else:
        out.print(
            f"{told['copied']:,} records copied in {told['seconds']} s "
            f"({told['copied_per_second']:,} a second)",
            highlight=False,
        )


def _target(
    settings: Settings,
    names: tuple[str, ...],
    source: BridgeSource,
    stop: StopFlag,
    opened: ExitStack,
) -> Callable[[], Copies] | None:
    """Return what makes a bridge to the log of the settings; None: stopped while it was away."""
    if is_on_kinesis(settings):
        if wait_for_kinesis(settings, stop, _say) is None:
            return None
        from connectors.kinesis_bridge import KinesisBridge

        kinesis, address = connect_kinesis(settings)
        table = settings.kinesis
        limits = table.delivery_timeout_ms, table.reads_per_second
        return lambda: KinesisBridge(kinesis, address, names, *limits)
    client = opened.enter_context(closing(connect_kafka(settings, "confluent")))
    if not wait_for_topics(settings, names, "CreateTime", stop, _say):
        return None
    registry = registry_format(settings)
    return lambda: Bridge(client, names, registry, source_forgets=source.forgets)
