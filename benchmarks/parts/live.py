"""Live, by the wall clock: frame to greeting, and from a reaction to the policy that knows it."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import cv2

from benchmarks.parts import visits
from benchmarks.parts.whole_loop import FOLDER
from connectors.assets import missing_assets
from connectors.clocks import WallClock
from connectors.embedded_log import EmbeddedLog
from connectors.local_analyser import LocalAnalyser
from connectors.logs import Row
from connectors.pictures import PICTURES, FolderPictures
from engines.analysis import FrameAnswerer
from engines.embedded import EmbeddedEngine
from engines.job import Job, configure
from pipelines.analyze import Analyser
from pipelines.topology import greeting_loop
from producers.recorded import RecordedVisitors
from schemas.codec import decode
from schemas.frames import FrameCaptured

_LOOK_EVERY_S = 0.001
_PATIENCE_S = 10.0

T = TypeVar("T")


class Live:
    """A job in a thread, and a kiosk that talks to it through the log as another process would."""

    def __init__(self, folder: Path, analyser: Analyser) -> None:
        self.clock = WallClock()
        self.pictures = FolderPictures(folder / PICTURES)
        self.log = EmbeddedLog(folder, self.clock)
        config = visits.loop(reaction_delay_ms=0)
        engine_log = EmbeddedLog(folder, self.clock)
        configure(engine_log, (config,))
        answerer = FrameAnswerer(analyser, self.pictures, self.clock)
        self._engine = EmbeddedEngine(engine_log, greeting_loop(), answerer)
        self._job = Job(self._engine, self.pictures, (config,))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._job.run, args=(self._stop,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the job."""
        self._stop.set()
        self._thread.join()
        self._engine.close()
        self._engine.log.close()
        self.log.close()

    def wait_for(self, stream: str, after: int, wanted: Callable[[Row], T | None]) -> T:
        """Look into the log, every millisecond, until a record is what is waited for."""
        end_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end_s:
            for row in self.log.read(after, streams=(stream,)):
                found = wanted(row)
                if found is not None:
                    return found
                after = row.position
            time.sleep(_LOOK_EVERY_S)
        problem = f"nothing came in {stream} within {_PATIENCE_S} s"
        raise TimeoutError(problem)


@contextmanager
def _live() -> Iterator[Live]:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        live = Live(Path(folder), LocalAnalyser())
        try:
            yield live
        finally:
            live.close()


def assets_missing() -> bool:
    """Whether models or recordings are not fetched yet."""
    return bool(missing_assets())


def frame_to_greeting(n_visits: int, visitors_a_second: float) -> list[float]:
    """Return, for each visitor, ms from the picture taken to the greeting readable in the log.

    The picture is a shot of a real recording, encoded and stored by the kiosk within that time.
    """
    world = RecordedVisitors(seed=7, visits=n_visits)
    took_ms = []
    with _live() as live:
        for number in range(-5, n_visits):  # the first five load models and compile the codec
            shot = list(world.visitor(max(number, 0)).shots())[4]
            started_s = time.perf_counter()
            after = live.log.end().position
            _, jpeg = cv2.imencode(".jpg", shot.picture)
            picture_id = live.pictures.put(jpeg.tobytes())
            height, width = shot.picture.shape[:2]
            visit_id = visits.name(number + 5)
            live.log.append("frames", _frame(live, visit_id, picture_id, width, height))
            live.wait_for("greetings", after, _greeting_of(visit_id))
            took_s = time.perf_counter() - started_s
            if number >= 0:
                took_ms.append(took_s * 1e3)
            time.sleep(max(0.0, 1.0 / visitors_a_second - took_s))
    return took_ms


def _greeting_of(visit_id: str) -> Callable[[Row], bool | None]:
    return lambda row: decode(row.value).visit_id == visit_id or None


def _frame(live: Live, visit_id: str, picture_id: str, width: int, height: int) -> FrameCaptured:
    return FrameCaptured(
        frame_id=f"{visit_id}.pre.0",
        decision_id=visit_id,
        visit_id=visit_id,
        loop_id=visits.LOOP_ID,
        kiosk_id="kiosk-1",
        phase="pre",
        sequence=0,
        captured_at_ms=live.clock(),
        width=width,
        height=height,
        notice="posted",
        picture_id=picture_id,
    )


def reaction_to_policy(n_visits: int) -> tuple[list[float], list[float]]:
    """Return ms from the record that closes a visit to two things that follow from it.

    Returns
    -------
    to_snapshot : list of float
        Until the snapshot that learned from it can be read in the log.
    to_decision : list of float
        Until a decision made with that snapshot can: of a visitor who comes that moment.
    """
    to_snapshot, to_decision = [], []
    with _live() as live:
        first = _decided(live, 0)
        for number in range(n_visits):
            action_id = first[1]
            now_ms = live.clock()
            live.log.append("impressions", visits.shown(number, action_id, now_ms))
            at_ms = live.clock()
            live.log.append("analyses", visits.analysed(number, "post", at_ms))
            time.sleep(0.02)
            after = live.log.end().position
            started_s = time.perf_counter()
            live.log.append("visits", visits.ended(number, live.clock()))
            version = live.wait_for("policies", after, _version_of(number))
            to_snapshot.append((time.perf_counter() - started_s) * 1e3)
            first = _decided(live, number + 1)
            to_decision.append((time.perf_counter() - started_s) * 1e3)
            if first[0] < version:
                problem = f"a decision was made with version {first[0]}, not {version}"
                raise AssertionError(problem)
    return to_snapshot[3:], to_decision[3:]


def _decided(live: Live, number: int) -> tuple[int, str]:
    after = live.log.end().position
    live.log.append("analyses", visits.analysed(number, "pre", live.clock()))

    def mine(row: Row) -> tuple[int, str] | None:
        choice = decode(row.value).choice
        return (choice.version, choice.action_id) if row.key == visits.name(number) else None

    return live.wait_for("decisions", after, mine)


def _version_of(number: int) -> Callable[[Row], int | None]:
    def learned(row: Row) -> int | None:
        snapshot = decode(row.value)
        mine = snapshot.learned_through_id == visits.name(number)
        return snapshot.version if mine else None

    return learned
