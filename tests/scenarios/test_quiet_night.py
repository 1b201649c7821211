"""A quiet night: nobody comes any more, and still everything is closed, then all is at rest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import worlds
from connectors.clocks import WallClock
from connectors.embedded_log import EmbeddedLog
from connectors.local_analyser import LocalAnalyser
from connectors.pictures import FolderPictures
from engines import job as jobs
from engines.analysis import FrameAnswerer
from engines.embedded import EmbeddedEngine
from engines.job import Job, configure
from pipelines.topology import TICK_INTERVAL_MS, greeting_loop
from schemas.codec import decode
from schemas.decisions import RewardRules
from schemas.outcomes import OutcomeClosed
from waiting import wait_until

WINDOW_MS = 2_000
GRACE_MS = 1_000
PROMISED_MS = 3_000
"""An outcome stands in the log so long after its window at the latest."""
TAIL_SLACK_MS = 500
"""Instead of 70 s: nothing waits for its decision in this night."""


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedLog]:
    """Run the job by the wall clock in a thread; give the log as another process sees it."""

    def short_tail_ms(rules: RewardRules) -> int:
        return rules.longest_life_ms + TAIL_SLACK_MS

    monkeypatch.setattr(jobs, "tick_tail_ms", short_tail_ms)
    config = worlds.loop(rules={"reward_window_ms": WINDOW_MS, "grace_ms": GRACE_MS})
    _leave_half_a_picture(tmp_path / "pictures")
    stop = threading.Event()

    def run() -> None:
        log = EmbeddedLog(tmp_path, WallClock())
        pictures = FolderPictures(tmp_path / "pictures")
        answerer = FrameAnswerer(LocalAnalyser(), pictures, log.clock)
        engine = EmbeddedEngine(log, greeting_loop(), answerer)
        configure(log, (config,))
        Job(engine, pictures, (config,)).run(stop)
        engine.close()
        log.close()

    thread = threading.Thread(target=run)
    thread.start()
    log = EmbeddedLog(tmp_path, WallClock())
    yield log
    stop.set()
    thread.join()
    log.close()


@pytest.mark.slow
def test_the_last_outcome_closes_in_time_and_then_the_log_rests(running: EmbeddedLog) -> None:
    log = running
    log.append("frames", worlds.captured("last", "pre", 0, log.clock(), 0.1))
    wait_until(lambda: bool(log.counts()["greetings"]), 30.0)
    action_id = decode(log.last("greetings", 1)[0].value).action_id
    shown_ms = log.clock()
    log.append("impressions", worlds.shown("last", action_id, shown_ms))

    # From here on nothing comes from outside.
    wait_until(lambda: bool(_outcomes(log)), (WINDOW_MS + PROMISED_MS) / 1_000)
    took_ms = log.clock() - shown_ms
    assert WINDOW_MS + GRACE_MS <= took_ms <= WINDOW_MS + PROMISED_MS
    assert [(o.closed_by, o.result) for o in _outcomes(log)] == [("deadline", "defaulted")]

    life_ms = 2 * (WINDOW_MS + GRACE_MS)
    last_ms = log.newest_log_time_ms(without_ticks=True)
    end_ms = last_ms + life_ms + TAIL_SLACK_MS
    wait_until(lambda: log.clock() > end_ms + 2 * TICK_INTERVAL_MS, 30.0)
    at_rest = log.end()
    # Ticks went on as long as any window could be open, and not longer.
    assert abs(at_rest.log_time_ms - end_ms) <= 2 * TICK_INTERVAL_MS
    used_s = time.process_time()
    time.sleep(2.0)
    used_s = time.process_time() - used_s
    assert log.end() == at_rest
    assert os.listdir(log.folder / "pictures") == []
    assert used_s < 0.3, f"{used_s:.2f} s of processor time in 2 s of rest"


def _leave_half_a_picture(folder: Path) -> None:
    """Leave what a kiosk leaves that is killed while it writes a picture, a minute ago."""
    folder.mkdir(mode=0o700)
    half = folder / f"{'a' * 32}.{'b' * 16}.part"
    half.write_bytes(b"\xff\xd8\xff half")
    a_minute_ago_s = time.time() - 60.0
    os.utime(half, (a_minute_ago_s, a_minute_ago_s))


def _outcomes(log: EmbeddedLog) -> list[Any]:
    values = (decode(row.value) for row in log.scan("outcomes"))
    return [value for value in values if isinstance(value, OutcomeClosed)]
