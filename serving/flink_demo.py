"""`make demo-flink`: a broker, a Flink cluster, the jobs and some kiosks, all on this machine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import msgspec

from connectors.jars import fetch_jars
from connectors.java import fetch_java, java_command
from connectors.kafka_topics import create_topics
from connectors.local_kafka import LocalKafka
from connectors.logs import Log
from connectors.pictures import PICTURES, FolderPictures
from engines.flink.jar import connector_jar, loop_jar
from engines.flink.local_cluster import LocalFlink
from engines.ticker import Ticker, longest_tail_ms
from pipelines.topology import PICTURE_TTL_MS
from schemas.codec import decode
from schemas.errors import RecordError, ResourceError
from schemas.outcomes import OutcomeClosed
from serving.ledger import read_ledger
from serving.opening import connect_kafka, kafka_address, open_log
from serving.report import Report, read_report
from serving.settings import Settings
from serving.stopping import Stop
from serving.submit_commands import JOBS, prepared, submitted

PREFIX = "demo"
TASKMANAGERS = 2
SLOTS = 2
_CLOSE_WITHIN_S = 90.0
_LOOK_EVERY_S = 1.0
_CAMERA = "from serving.cli import main; main()"

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class FlinkPlay:
    """What is played."""

    visits: int
    """Recorded visitors in all."""
    seed: int
    """Who comes, and how each reacts."""
    kiosks: int
    """Kiosks side by side, each a process; visitors take their real time, some eight seconds."""


def play(settings: Settings, what: FlinkPlay, stop: Stop, say: Say, progress: Progress) -> Report:
    """Start everything, play, report, and stop everything that was started.

    Parameters
    ----------
    settings : Settings
        `data` is the folder of all of it: broker, cluster, pictures, what the processes print.
    what : FlinkPlay
        How many visitors, and who.
    stop : Stop
        Ends it before its time.
    say : callable
        Told what happens now.
    progress : callable
        Told how many visits of how many are closed.

    Raises
    ------
    ResourceError
        Something that is needed is missing or does not start; says what to do.
    """
    java = java_command(None, settings.cache)
    if java is None:
        say("fetching a Java 17")
        java = fetch_java(settings.cache)
    for name in ("kafka_broker", "flink_kafka"):
        fetch_jars(name, settings.cache)
    folder = settings.data.resolve()
    with ExitStack() as started:
        say("starting a Kafka broker")
        broker = LocalKafka(folder / "kafka", java, fetch_jars("kafka_broker", settings.cache))
        started.enter_context(broker)
        settings = _on(settings, broker)
        create_topics(kafka_address(settings))
        say(f"starting a Flink cluster of {TASKMANAGERS} TaskManagers")
        jars = (connector_jar(settings.cache), loop_jar(java, folder / "flink", settings.cache))
        cluster = LocalFlink(folder / "flink", java, jars, TASKMANAGERS, SLOTS)
        started.enter_context(cluster)
        flink = msgspec.structs.replace(
            settings.flink,
            jobmanager=cluster.address.removeprefix("http://"),
            parallelism=TASKMANAGERS,
            checkpoints=cluster.checkpoints.as_uri(),
        )
        settings = msgspec.structs.replace(settings, flink=flink)
        told = prepared(settings)
        for job in JOBS:
            say(f"submitting the job {job}; see {cluster.address}")
            of_job = told if job == "loop" else msgspec.structs.replace(told, parallelism=1)
            submitted(settings, of_job, job, None, (), cluster.variables)
        started.enter_context(_ticking(settings, say))
        log = started.enter_context(closing(open_log(settings)))
        say(f"{what.kiosks} kiosks greet {what.visits} visitors")
        kiosks = started.enter_context(_kiosks(settings, what))
        _watch(log, kiosks, what.visits, stop, progress)
        _wait_until_closed(log, stop)
        left = FolderPictures(folder / PICTURES).ids() if (folder / PICTURES).exists() else ()
        report = read_report(log, len(left))
        say("stopping everything")
    return report


def _on(settings: Settings, broker: LocalKafka) -> Settings:
    address = f"kafka://{broker.bootstrap}/{PREFIX}"
    log = msgspec.structs.replace(settings.log, address=address)
    kiosk = msgspec.structs.replace(settings.kiosk, notice="posted")
    return msgspec.structs.replace(settings, log=log, kiosk=kiosk)


@contextmanager
def _ticking(settings: Settings, say: Say) -> Iterator[None]:
    """Let time pass in the log, as `pho ticks` does in a process of its own."""
    stop = threading.Event()

    def run() -> None:
        with closing(connect_kafka(settings)) as client, closing(open_log(settings)) as log:
            pictures = FolderPictures(settings.data / PICTURES)

            def sweep() -> None:
                pictures.sweep(log.clock(), pictures.ids(), PICTURE_TTL_MS)

            Ticker(client, lambda: longest_tail_ms(log, settings.loops)).run(stop, say, sweep)

    thread = threading.Thread(target=run, daemon=True, name="pho-ticks")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10.0)


@contextmanager
def _kiosks(settings: Settings, what: FlinkPlay) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the kiosks, each `pho camera recorded`; they end with this process."""
    processes = []
    folder = settings.data.resolve()
    try:
        for number in range(what.kiosks):
            visits = what.visits // what.kiosks + (number < what.visits % what.kiosks)
            if not visits:
                continue
            command = [sys.executable, "-c", _CAMERA, "camera", "recorded", "--json"]
            command += ["--log", settings.log.address, "--data", str(folder)]
            command += ["--kiosk", f"kiosk-{number + 1}", "--notice", "posted"]
            command += ["--visits", str(visits), "--seed", str(what.seed * 1_000 + number)]
            with (folder / f"kiosk-{number + 1}.out").open("wb") as output:
                processes.append(
                    subprocess.Popen(  # noqa: S603 - our own command
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:
                process.kill()


def _watch(
    log: Log,
    kiosks: list[subprocess.Popen[bytes]],
    visits: int,
    stop: Stop,
    progress: Progress,
) -> None:
    """Tell how many visits are closed until the kiosks have ended."""
    closed: set[str] = set()
    with closing(log.tail("outcomes")) as tail:
        progress(0, visits)
        while any(kiosk.poll() is None for kiosk in kiosks) and not stop.is_set():
            for row in tail.poll(_LOOK_EVERY_S):
                try:
                    value = decode(row.value)
                except RecordError:
                    continue
                if isinstance(value, OutcomeClosed):
                    closed.add(value.choice.decision_id)
            progress(min(len(closed), visits), visits)
    failed = [kiosk for kiosk in kiosks if kiosk.poll() not in (0, None)]
    if failed and not stop.is_set():
        problem = f"{len(failed)} of {len(kiosks)} kiosks failed"
        raise ResourceError(problem, "Read kiosk-*.out in the folder of --data")
    progress(visits, visits)


def _wait_until_closed(log: Log, stop: Stop) -> None:
    """Wait until every decision has its outcome: the last windows close with the Ticks."""
    until_s = time.monotonic() + _CLOSE_WITHIN_S
    while not stop.is_set() and time.monotonic() < until_s and read_ledger(log).open:
        stop.wait(_LOOK_EVERY_S)
