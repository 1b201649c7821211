"""`pho camera`: a producer in its own process, which is also a kiosk in a terminal."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from rich.markup import escape

from connectors.clocks import WallClock
from connectors.embedded_log import EmbeddedLog
from connectors.face_models import FaceFinder
from connectors.pictures import PICTURES, FolderPictures
from engines.job import StopFlag
from producers.cameras import CameraSettings, Time, open_camera
from producers.kiosk import Kiosk, KioskCounters, KioskSettings, Places
from producers.recorded import RecordedVisitors, VisitorsCamera
from producers.tracker import VisitTracker
from schemas.codec import decode
from schemas.decisions import GreetingIssued
from schemas.errors import CameraError, LogFull, LogUnavailable, RecordError
from serving.crashes import crash_steps
from serving.demo import tracker_settings
from serving.settings import Settings

_GREETING_POLL_S = 0.02
_ENDLESS_VISITS = 1_000_000

Say = Callable[[str], None]


class TerminalKiosk:
    """Sees through a camera, and greets in the terminal.

    Parameters
    ----------
    settings : Settings
        The settings.
    log : EmbeddedLog
        Takes the frames, gives the greetings.
    stop : StopFlag
        Ends it.
    say : callable or None
        Prints a line.
    """

    def __init__(
        self, settings: Settings, log: EmbeddedLog, stop: StopFlag, say: Say | None
    ) -> None:
        self.log = log
        self.stop = stop
        self._say = say
        self._kiosk_id = settings.kiosk.id
        self._through = log.end().position
        self._react: Callable[[str, int], None] | None = None
        prefix = secrets.token_hex(4)
        pictures = FolderPictures(settings.data / PICTURES)
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
        rows = self.log.read(self._through, streams=("greetings",), key=self._kiosk_id)
        for row in rows:
            try:
                greeting = decode(row.value)
                if isinstance(greeting, GreetingIssued):
                    self._show(greeting)
            except RecordError:
                pass  # not one of ours: it greets nobody
            except (LogFull, LogUnavailable):
                # Back-pressure: what the log does not hold is not shown; the next poll tries again.
                return
            self._through = row.position

    def _show(self, greeting: GreetingIssued) -> None:
        now_ms = self.log.clock()
        if self.kiosk.show(greeting, now_ms):
            if self._say is not None:
                text, action_id = escape(greeting.text), escape(greeting.action_id)
                self._say(f"[bold]{text}[/]  [dim]{action_id}[/]")
            if self._react is not None:
                self._react(greeting.action_id, now_ms)

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
            self.kiosk.stop(self.log.clock(), "camera_lost")
            raise
        self.kiosk.stop(self.log.clock(), "stopped")

    def _see(self, shot: object) -> None:
        try:
            self.kiosk.see(shot)  # type: ignore[arg-type]
        except (LogFull, LogUnavailable) as error:
            # Back-pressure: the kiosk has not moved on, the next shot tries again.
            if self._say is not None:
                self._say(f"[red]{escape(str(error))}[/]")
        self.greet()


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
    """
    log = EmbeddedLog(
        settings.data, WallClock(), settings.log.synchronous, crash_steps(settings.crash_at)
    )
    kiosk = TerminalKiosk(settings, log, stop, say)
    source = settings.camera.source
    if source == "recorded":
        offset = settings.kiosk.utc_offset_minutes
        world = RecordedVisitors(
            seed, visits or _ENDLESS_VISITS, cache=settings.cache, utc_offset_minutes=offset
        )
        camera: object = VisitorsCamera(world, kiosk.time)
    else:
        camera = open_camera(source, kiosk.time, CameraSettings(settings.camera.shots_per_second))
    try:
        kiosk.watch(camera, visits)
    finally:
        camera.close()  # type: ignore[attr-defined]
        log.close()
    return kiosk.kiosk.counters
