"""Commands for a log on Kafka: ticks, bridge."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from connectors.clocks import WallClock
from connectors.pictures import PICTURES, FolderPictures
from pipelines.topology import PICTURE_TTL_MS
from schemas.errors import PhoError
from serving.bridging import Bridging, Target, open_source
from serving.console import AsJson, Config, Data, LogAddress, as_flag, bar, err, out, print_json
from serving.opening import connect_kafka, hasty, open_log, registry_format, wait_for_topics
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
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    config: Config = None,
) -> None:
    """Let time pass in a log on Kafka: append Ticks where nothing else comes.

    One is enough, two do no harm. It also removes pictures older than a minute from the folder
    of --data.

    Example: pho ticks --log kafka://localhost:9092/shop
    """
    settings = load(config, {"data": as_flag(data), "log.address": log})
    stop = stop_on_signals(seconds)
    # While a broker is away the ticker has nothing to keep: it only waits, and says so soon.
    settings = hasty(settings)
    with closing(connect_kafka(settings)) as client, closing(open_log(settings)) as opened:
        from connectors.kafka_log import TICKED_STREAMS
        from engines.ticker import Ticker, longest_tail_ms

        if not wait_for_topics(settings, TICKED_STREAMS, "LogAppendTime", stop, _say):
            return
        ticker = Ticker(
            client, lambda: longest_tail_ms(opened, settings.loops), registry_format(settings)
        )
        _say(f"ticks go to {opened.name}; stop with Ctrl-C")
        ticker.run(stop, _say, lambda: _sweep(settings))
    _say(f"stopped after {ticker.ticks} Ticks")


def _sweep(settings: Settings) -> None:
    """Remove pictures that lived too long; which are waited for, only the job could say."""
    folder = settings.data / PICTURES
    if not folder.is_dir():
        return
    try:
        pictures = FolderPictures(folder)
        pictures.sweep(WallClock()(), pictures.ids(), PICTURE_TTL_MS)
    except PhoError as error:
        _say(str(error))


def _say(line: str) -> None:
    err.print(escape(line), highlight=False, soft_wrap=True)


def bridge(
    source: Annotated[Path, typer.Option("--from", help="Folder of a log, or an archive.")],
    log: LogAddress = None,
    streams: Streams = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what comes, until stopped.")
    ] = False,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Copy a folder's log, or an archive, into topics on Kafka; log times are kept.

    Started again it goes on where it stopped: each record arrives exactly once. The topics are
    made by `pho topics create --bridged`.

    Example: pho bridge --from shop --log kafka://localhost:9092/shop
    """
    settings = load(config, {"log.address": log})
    names = chosen(streams)
    stop = stop_on_signals(seconds)
    opened = open_source(source, follow=follow)
    started_s = time.monotonic()
    with (
        closing(connect_kafka(settings, "confluent")) as client,
        bar("records", quiet=as_json) as moved,
    ):
        if not wait_for_topics(settings, names, "CreateTime", stop, _say):
            return
        bridging = Bridging(Target(client, names, registry_format(settings)), opened, moved)
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
