"""`pho demo`: the whole loop on recorded visitors, in lock-step, resumable."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.face_models import FaceFinder
from connectors.local_analyser import LocalAnalyser
from connectors.pictures import PICTURES, FolderPictures, PictureStore
from engines.analysis import FrameAnswerer
from engines.embedded import EmbeddedEngine
from engines.job import configure
from pipelines.analyze import Analyser
from pipelines.topology import greeting_loop, tick_tail_ms
from producers.cameras import CameraSettings, Shot, Time, open_camera
from producers.kiosk import Kiosk, KioskSettings, Places
from producers.recorded import RecordedVisitors, Visitor
from producers.taste import START_MS
from producers.tracker import TrackerSettings, VisitTracker
from schemas.errors import UsageError
from serving.crashes import crash_steps
from serving.lockstep import LockStep
from serving.settings import Settings

Progress = Callable[[int, int], None]
"""Told how many of how many visits are done."""


@dataclass(frozen=True, slots=True)
class Play:
    """What a data folder was made with; going on with anything else would mix two worlds."""

    source: str
    """``recorded``, or the camera's file or folder."""
    seed: int
    """Seed of the recorded visitors."""
    visits: int
    """How many come."""


def tracker_settings(settings: Settings) -> TrackerSettings:
    """Return the visit tracker's settings."""
    table = settings.tracker
    return TrackerSettings(
        min_face_height=table.min_face_height,
        stand_still_ms=table.stand_still_ms,
        bridge_ms=table.bridge_ms,
        post_delays_ms=table.post_delays_ms,
        visit_max_ms=table.visit_max_ms,
    )


class Demo:
    """One demo folder.

    Parameters
    ----------
    settings : Settings
        The settings; the notice counts as posted, since recordings consent to anything.
    play : Play
        What to play.
    """

    def __init__(self, settings: Settings, play: Play) -> None:
        self.settings = settings
        self.play = play
        self.clock = SetClock()
        self.log = EmbeddedLog(
            settings.data, self.clock, settings.log.synchronous, crash_steps(settings.crash_at)
        )
        self._refuse_other_play()
        self.pictures = self._make_pictures()
        self.loop = settings.loop(settings.kiosk.loop)

    @property
    def finished(self) -> bool:
        """Whether everything was played."""
        return bool(self.log.fact("demo.finished"))

    @property
    def pictures_left(self) -> int:
        """Pictures that the loop itself left behind."""
        return int(self.log.fact("demo.pictures_left")) + len(self.pictures.ids())

    def run(self, progress: Progress) -> None:
        """Play what the folder does not hold yet, to the end."""
        if self.finished:
            return
        settings = self.settings
        finder = FaceFinder("short_range", settings.cache)
        answerer = FrameAnswerer(
            self._make_analyser(), self.pictures, self.clock, picture_ttl_ms=None
        )
        flow = greeting_loop(concurrency=1)
        engine = EmbeddedEngine(self.log, flow, answerer, limited=False)
        try:
            tail_ms = tick_tail_ms(self.loop.rules)
            step = self._make_step(engine, tail_ms)
            self._configure(step)
            if self.play.source == "recorded":
                self._play_visitors(step, finder, progress)
            else:
                self._play_camera(step, finder, progress)
            step.finish()
            # Nothing waits any more: what lies here was half written when a demo was killed, and
            # counted from the year 1970 everything is old. A whole picture would be the loop's
            # own fault; it goes too, but is told.
            self.pictures.flush()
            left = self.pictures.sweep(0, ())
            with self.log.transaction():
                self.log.set_fact("demo.pictures_left", len(left))
                self.log.set_fact("demo.finished", 1)
        finally:
            engine.close()

    # What a demo elsewhere makes otherwise (serving/aws_demo.py)

    def _make_pictures(self) -> PictureStore:
        return FolderPictures(self.settings.data / PICTURES)

    def _make_analyser(self) -> Analyser:
        return LocalAnalyser(self.settings.cache)

    def _make_step(self, engine: EmbeddedEngine, tail_ms: int) -> LockStep:
        return LockStep(self.log, self.clock, engine, tail_ms, self.pictures)

    def _configure(self, step: LockStep) -> None:
        if not self.clock():
            step.clock.set(START_MS)
        configure(self.log, (self.loop,))
        step.settle()

    def _play_visitors(self, step: LockStep, finder: FaceFinder, progress: Progress) -> None:
        world = RecordedVisitors(self.play.seed, self.play.visits, cache=self.settings.cache)
        done = int(self.log.fact("demo.done"))
        names = _Names(self.play)
        kiosk = self._kiosk(step, finder, names)
        progress(done, self.play.visits)
        for index in range(done, self.play.visits):
            names.visitor = index
            self._visit(kiosk, step, world.visitor(index))
            with self.log.transaction():
                self.log.set_fact("demo.done", index + 1)
            progress(index + 1, self.play.visits)

    def _visit(self, kiosk: Kiosk, step: LockStep, visitor: Visitor) -> None:
        for shot in visitor.shots():
            action_id = self._see(kiosk, step, shot)
            if action_id is not None:
                visitor.react(action_id, shot.at_ms)

    def _play_camera(self, step: LockStep, finder: FaceFinder, progress: Progress) -> None:
        time_of_recording = Time(self.clock, lambda _seconds: None)
        sampled = CameraSettings(self.settings.camera.shots_per_second, start_ms=START_MS)
        camera = open_camera(self.play.source, time_of_recording, sampled)
        kiosk = self._kiosk(step, finder, _Names(self.play))
        last_ms = START_MS
        try:
            for number, shot in enumerate(camera.shots()):
                self._see(kiosk, step, shot)
                last_ms = shot.at_ms
                progress(number, number + 1)
        finally:
            camera.close()
        kiosk.stop(last_ms + 1)

    def _see(self, kiosk: Kiosk, step: LockStep, shot: Shot) -> str | None:
        """Let the kiosk look at one picture; return the greeting shown after it, if any."""
        started_s = time.perf_counter()
        sent = kiosk.counters.frames_sent
        kiosk.see(shot)
        if kiosk.counters.frames_sent == sent or kiosk.visit_id is None:
            return None
        greeting = step.greeting(self.settings.kiosk.id, kiosk.visit_id)
        milliseconds = (time.perf_counter() - started_s) * 1_000.0
        if greeting is None or not kiosk.show(greeting, shot.at_ms):
            return None
        self._note_latency(greeting.visit_id, milliseconds)
        return greeting.action_id

    def _kiosk(self, step: LockStep, finder: FaceFinder, names: _Names) -> Kiosk:
        kiosk = self.settings.kiosk
        return Kiosk(
            KioskSettings(kiosk.loop, kiosk.id, "posted", kiosk.utc_offset_minutes, kiosk.language),
            finder,
            VisitTracker(tracker_settings(self.settings)),
            Places(self.pictures, step, names.visit, names.picture),
        )

    def _note_latency(self, visit_id: str, milliseconds: float) -> None:
        with self.log.transaction():
            self.log.set_fact(f"demo.greeted_ms.{visit_id}", milliseconds)

    def _refuse_other_play(self) -> None:
        mine = json.dumps([self.play.source, self.play.seed, self.play.visits])
        known = self.log.fact("demo.play", "")
        if not known:
            if self.log.end().position:
                problem = f"{self.settings.data} holds a log that no demo made"
                raise UsageError(problem, "Give the demo a folder of its own with --data")
            with self.log.transaction():
                self.log.set_fact("demo.play", mine)
        elif known != mine:
            problem = f"{self.settings.data} holds a demo of {known}, not of {mine}"
            raise UsageError(problem, "Give another folder with --data, or the same options")


class _Names:
    """Ids that a demo played again gives again."""

    def __init__(self, play: Play) -> None:
        self.visitor: int | None = None
        self._play = play

    def visit(self, at_ms: int) -> str:
        if self.visitor is None:
            return f"visit-{at_ms}"
        return f"visit-{self._play.seed}-{self.visitor:05d}"

    def picture(self, frame_id: str) -> str:
        # Opaque, but the same when a killed demo stores the picture once more: the file that the
        # crash left behind is replaced, and deleted with the answer.
        name = f"{self._play.source}/{self._play.seed}/{frame_id}"
        return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
