"""`pho run` on Kinesis: the embedded engine in a folder of its own, between streams."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing

import msgspec

from connectors.clocks import WallClock
from connectors.embedded_log import EmbeddedLog
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_intake import Intake
from connectors.kinesis_publisher import Places, Publisher
from connectors.kinesis_sink import KinesisSink
from connectors.kinesis_source import KinesisSource
from engines.job import Job, StopFlag, configure
from engines.kinesis_engine import KinesisEngine, Publishing, Reading
from engines.services import close_answerer
from schemas.errors import LogUnavailable
from serving.crashes import crash_steps
from serving.kinesis_opening import connect_kinesis, patiently, wait_for_kinesis
from serving.services import make_answerer, make_flow, open_pictures
from serving.settings import Settings

Say = Callable[[str], None]
_FIRST_LOOK_S = 1.0
_RETRY_S = 1.0


def run_on_kinesis(settings: Settings, stop: StopFlag, say: Say) -> None:
    """Run the streaming job until it is stopped.

    Parameters
    ----------
    settings : Settings
        Name the streams and the folder.
    stop : StopFlag
        Ends it.
    say : callable
        Told what a person should know.

    Raises
    ------
    LogUnavailable
        A stream is missing, or a permission.
    UsageError
        The folder holds another log.
    """
    if wait_for_kinesis(settings, stop, say) is None:
        return
    client, address = connect_kinesis(settings)
    steps = crash_steps(settings.crash_at)
    pictures = open_pictures(settings)
    with ExitStack() as opened:
        file = opened.enter_context(
            closing(EmbeddedLog(settings.data, None, settings.log.synchronous, steps))
        )
        intake = Intake(file, _identity(address))
        speed = settings.kinesis.reads_per_second
        # Throttled at this very moment it must not end: the streams were found a moment ago.
        source = patiently(lambda: KinesisSource(client, address, intake.places, speed), stop, say)
        if source is None:
            return
        reading = opened.enter_context(closing(Reading(source, say)))
        _begin(intake, source, stop, say)
        flow = make_flow(settings)
        answerer = make_answerer(settings, pictures, source.clock)
        opened.callback(close_answerer, answerer)
        engine = opened.enter_context(closing(KinesisEngine(file, flow, answerer, intake, reading)))
        for loop_id in configure(file, settings.loops):
            say(f"loop {loop_id}: configured")
        # A file of its own: SQLite has one transaction at a time on each connection.
        sent = opened.enter_context(
            closing(EmbeddedLog(settings.data, None, settings.log.synchronous, steps))
        )
        once, _ = connect_kinesis(settings, tries=1)
        timeout_ms = settings.kinesis.delivery_timeout_ms
        sink = KinesisSink(once, address, timeout_ms, certain=True)

        def read_behind(places: Places) -> KinesisSource:
            return KinesisSource(client, address, places, speed)

        publishing = opened.enter_context(
            closing(Publishing(Publisher(sent, sink, read_behind), say))
        )
        reading.start()
        publishing.start()
        say(f"the job runs on {address} with {settings.data}; stop it with Ctrl-C")
        job = Job(engine, pictures, settings.loops)
        # Pictures age by this machine's clock, also while Kinesis, and so the log's time, stands.
        job.clock = WallClock()
        job.run(stop)


def in_its_folder(settings: Settings) -> Settings:
    """Return settings for whoever works on the file of this job."""
    return msgspec.structs.replace(settings, log=msgspec.structs.replace(settings.log, address=""))


def _begin(intake: Intake, source: KinesisSource, stop: StopFlag, say: Say) -> None:
    """Look at every shard once, before anything is written into a new folder."""
    said = False
    looked: set[tuple[str, str]] = set()
    while source.reading - looked and not stop.is_set():
        try:
            batches = source.poll(_FIRST_LOOK_S, source.reading - looked)
        except LogUnavailable as error:
            if not said:
                say(f"{error.problem}; trying on")
            said = True
            stop.wait(_RETRY_S)
            continue
        intake.begin(batches)
        looked |= {(batch.stream, batch.shard_id) for batch in batches}


def _identity(address: KinesisAddress) -> str:
    """Return what makes it the same log: the server it is reached by may change."""
    return str(KinesisAddress(address.region, address.prefix))
