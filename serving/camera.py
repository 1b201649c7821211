"""`pho camera`: a producer in its own process, which is also a kiosk in a terminal."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing

from rich.markup import escape

from connectors.clocks import WallClock
from connectors.face_models import FaceFinder
from connectors.logs import Log, Row
from engines.job import StopFlag
from producers.cameras import CameraSettings, Time, open_camera
from producers.kiosk import Kiosk, KioskSettings, Places
from producers.looks import KioskCounters
from producers.recorded import RecordedVisitors, VisitorsCamera
from producers.tracker import VisitTracker
from schemas.codec import decode
from schemas.decisions import EndReason, GreetingIssued
from schemas.errors import CameraError, LogFull, LogUnavailable, PhoError, RecordError
from serving.demo import tracker_settings
from serving.kinesis_opening import is_on_kinesis, patiently, wait_for_kinesis
from serving.opening import (
    connect_kafka,
    hasty,
    open_log,
    registry_format,
    wait_for_topics,
)
from serving.services import open_pictures
from serving.settings import Settings

_GREETING_POLL_S = 0.02
_ENDLESS_VISITS = 1_000_000
_RETRY_S = 1.0
_TOPICS = ("frames", "greetings", "impressions", "visits")

Say = Callable[[str], None]


class TerminalKiosk:
    """Sees through a camera, and greets in the terminal.

    Parameters
    ----------
    settings : Settings
        The settings.
    log : Log
        Takes the frames, gives the greetings; its clock stamps what happens here.
    stop : StopFlag
        Ends it.
    say : callable or None
        Prints a line.
    """

    def __init__(self, settings: Settings, log: Log, stop: StopFlag, say: Say | None) -> None:
        self.log = log
        self.stop = stop
        self._say = say
        self._tail = log.tail("greetings", key=settings.kiosk.id)
        # Greetings that came, and that the log could not yet note as shown.
        self._waiting: deque[Row] = deque()
        self._react: Callable[[str, int], None] | None = None
        prefix = secrets.token_hex(4)
        pictures = open_pictures(settings)
        kiosk = settings.kiosk
        self.kiosk = Kiosk(
            KioskSettings(
                kiosk.loop, kiosk.id, kiosk.notice, kiosk.utc_offset_minutes, kiosk.language
            ),
            FaceFinder("short_range", settings.cache),
            VisitTracker(tracker_settings(settings)),
            Places(pictures, log, lambda at_ms: f"{kiosk.id}-{prefix}-{at_ms}"),
        )
        self.time = Time(log.clock, self.wait)

    def wait(self, seconds: float) -> None:
        """Wait for the camera's next picture, and greet meanwhile."""
        until_s = time.monotonic() + seconds
        while not self.stop.is_set():
            self.greet()
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return
            self.stop.wait(min(left_s, _GREETING_POLL_S))

    def greet(self) -> None:
        """Show the greeting of whoever stands here, if it has come."""
        try:
            self._waiting += self._tail.poll(0.0)
            while self._waiting:
                self._greet_with(self._waiting[0])
                self._waiting.popleft()
        except (LogFull, LogUnavailable):
            # Back-pressure: what the log does not hold is not shown; the next poll tries again.
            return

    def _greet_with(self, row: Row) -> None:
        try:
            greeting = decode(row.value)
        except RecordError:
            return  # not one of ours: it greets nobody
        if isinstance(greeting, GreetingIssued):
            self._show(greeting)

    def _show(self, greeting: GreetingIssued) -> None:
        now_ms = self.log.clock()
        if self.kiosk.show(greeting, now_ms):
            if self._say is not None:
                text, action_id = escape(greeting.text), escape(greeting.action_id)
                self._say(f"[bold]{text}[/]  [dim]{action_id}[/]")
            if self._react is not None:
                self._react(greeting.action_id, now_ms)

    def close(self) -> None:
        """Stop following the greetings; the log stays open."""
        self._tail.close()

    def watch(self, camera: object, visits: int | None) -> None:
        """Look at every shot until the camera ends, `stop` is set, or enough visits are over."""
        self._react = getattr(camera, "react", None)
        try:
            for shot in camera.shots():  # type: ignore[attr-defined]
                self._see(shot)
                ended = self.kiosk.counters.visits_ended
                if self.stop.is_set() or (visits is not None and ended >= visits):
                    break
        except CameraError:
            self._end("camera_lost")
            raise
        self._end("stopped")

    def _end(self, reason: EndReason) -> None:
        """End the visit that runs; while the log takes nothing, try again until told to stop."""
        while True:
            try:
                self.kiosk.stop(self.log.clock(), reason)
                return
            except (LogFull, LogUnavailable) as error:
                if self.stop.is_set():
                    raise
                self._tell(error)
                self.stop.wait(_RETRY_S)

    def _see(self, shot: object) -> None:
        try:
            self.kiosk.see(shot)  # type: ignore[arg-type]
        except (LogFull, LogUnavailable) as error:
            # Back-pressure: the kiosk has not moved on, the next shot tries again.
            self._tell(error)
        self.greet()

    def _tell(self, error: PhoError) -> None:
        if self._say is not None:
            self._say(f"[red]{escape(str(error))}[/]")


def run_camera(
    settings: Settings,
    stop: StopFlag,
    seed: int = 1,
    visits: int | None = None,
    say: Say | None = None,
) -> KioskCounters:
    """Send a camera's visitors to the log until it ends.

    Parameters
    ----------
    settings : Settings
        The settings; `camera.source` names the camera.
    stop : StopFlag
        Ends it.
    seed : int
        Seed of the source ``recorded``.
    visits : int or None
        Stop after so many; None: never.
    say : callable or None
        Prints a line.

    Raises
    ------
    CameraError
        The camera cannot be opened, or went away.
    LogUnavailable
        The topics are missing; or it was told to stop while the log took nothing.
    """
    log = _open_log(settings, stop, say or (lambda _line: None))
    if log is None:
        return KioskCounters()
    with closing(log):
        # Kinesis may refuse to be followed a moment after it answered.
        told = say or (lambda _line: None)
        kiosk = patiently(
            lambda: TerminalKiosk(settings, log, stop, say), stop, lambda s: told(escape(s))
        )
        if kiosk is None:
            return KioskCounters()
        source = settings.camera.source
        if source == "recorded":
            offset = settings.kiosk.utc_offset_minutes
            world = RecordedVisitors(
                seed, visits or _ENDLESS_VISITS, cache=settings.cache, utc_offset_minutes=offset
            )
            camera: object = VisitorsCamera(world, kiosk.time)
        else:
            sampled = CameraSettings(settings.camera.shots_per_second)
            camera = open_camera(source, kiosk.time, sampled)
        try:
            kiosk.watch(camera, visits)
        finally:
            camera.close()  # type: ignore[attr-defined]
            kiosk.close()
    return kiosk.kiosk.counters


def _open_log(settings: Settings, stop: StopFlag, say: Say) -> Log | None:
    """Open the log, waiting for its broker; None: told to stop before one answered."""
    if not settings.log.address:
        return open_log(settings, must_exist=False)
    if is_on_kinesis(settings):
        return wait_for_kinesis(settings, stop, lambda s: say(escape(s)))
    # A visitor does not stand there for two minutes: the next shot tries again sooner.
    settings = hasty(settings)
    if not wait_for_topics(settings, _TOPICS, "LogAppendTime", stop, lambda s: say(escape(s))):
        return None
    from connectors.kafka_clock import CorrectedClock, measure_skew
    from connectors.kafka_log import KafkaLog

    client = connect_kafka(settings)
    registry = registry_format(settings)
    clock = CorrectedClock(WallClock(), measure_skew(client, WallClock(), registry))
    if clock.ahead_ms:
        # Else a greeting would have expired before it came, or never.
        say(f"this clock is {clock.ahead_ms / 1_000:+.1f} s off the broker's; corrected")
    return KafkaLog(client, clock, registry)
