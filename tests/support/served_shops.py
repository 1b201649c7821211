"""A gateway and a job on one folder, each in a thread of the test, with visitors in real time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectors.clocks import WallClock
from connectors.embedded_log import EmbeddedLog
from connectors.local_analyser import LocalAnalyser
from connectors.pictures import PICTURES, FolderPictures
from engines.analysis import FrameAnswerer
from engines.embedded import EmbeddedEngine
from engines.job import Job, configure
from pipelines.topology import greeting_loop
from producers.recorded import RecordedVisitors, Script
from running_gateways import free_port
from schemas.codec import decode
from serving.gateway.kiosk_hall import BRIDGE_S
from serving.gateway.server import serve
from serving.gateway.shop import open_shop
from serving.settings import Settings, load

QUICK = {
    "tracker.stand_still_ms": 300,
    "tracker.bridge_ms": 700,
    "tracker.post_delays_ms": (1_100, 1_700),
    "loops.greeting.rules.reaction_delay_ms": 900,
    "loops.greeting.rules.reward_window_ms": 4_000,
    "loops.greeting.rules.grace_ms": 1_000,
}
"""Visits and windows short enough for a test in real time."""
HASTY = Script(
    shot_interval_ms=200,
    empty_before_ms=200,
    patience_ms=3_000,
    face_delay_ms=300,
    reaction_ms=2_100,
    empty_after_ms=1_300,
)
"""Visitors who come, react and go as quickly as `QUICK` can follow."""


def quick_settings(folder: Path, **flags: Any) -> Settings:
    """Return settings of a shop whose visits are short; flags by dotted name."""
    told = {"data": str(folder), "gateway.port": free_port(), **QUICK, **flags}
    return load(None, told, {})


def hasty_world(seed: int = 1, patience_ms: int = HASTY.patience_ms) -> RecordedVisitors:
    """Return visitors for `QUICK`, who wait so long for a greeting."""
    return RecordedVisitors(seed, 20, script=replace(HASTY, patience_ms=patience_ms))


@contextmanager
def serving_gateway(settings: Settings, bridge_s: float = BRIDGE_S) -> Iterator[None]:
    """Serve a gateway until the block ends."""
    stop, started = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            shop = open_shop(settings, stop, lambda _line: None)
            assert shop is not None
            with closing(shop):
                serve(shop, stop, started.set, bridge_s)
        except BaseException as error:  # noqa: BLE001 - told to the test, which raises it
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="gateway")
    thread.start()
    try:
        assert started.wait(30.0)
        if failed:
            raise failed[0]
        yield
    finally:
        stop.set()
        thread.join(timeout=30.0)
    assert not thread.is_alive()
    assert not failed, failed


@contextmanager
def running_job(settings: Settings) -> Iterator[None]:
    """Run the streaming job until the block ends."""
    stop, started = threading.Event(), threading.Event()

    def run() -> None:
        log = EmbeddedLog(settings.data, WallClock())
        pictures = FolderPictures(settings.data / PICTURES)
        answerer = FrameAnswerer(LocalAnalyser(), pictures, log.clock)
        with closing(log), closing(EmbeddedEngine(log, greeting_loop(), answerer)) as engine:
            configure(log, settings.loops)
            started.set()
            Job(engine, pictures, settings.loops).run(stop)

    thread = threading.Thread(target=run, name="job")
    thread.start()
    try:
        assert started.wait(30.0)
        yield
    finally:
        stop.set()
        thread.join(timeout=30.0)
    assert not thread.is_alive()


def records(settings: Settings, stream: str) -> list[Any]:
    """Return all records of a stream."""
    with closing(EmbeddedLog(settings.data)) as log:
        return [decode(row.value) for row in log.scan(stream)]
