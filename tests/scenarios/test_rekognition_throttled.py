"""Rekognition throttled while visitors come: each is greeted, and it is asked again afterwards.

REKOGNITION_THROTTLED_S=600 python -m pytest -s tests/scenarios/test_rekognition_throttled.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import pytest

from connectors.embedded_log import EmbeddedLog
from connectors.local_analyser import LocalAnalyser
from connectors.local_rekognition import LocalRekognition
from faulty_aws import Faults, FaultyAws
from pipelines.analyze import NotAsked
from schemas.codec import decode
from schemas.decisions import DecisionMade
from schemas.frames import FrameAnalyzed
from schemas.operations import AlarmRaised
from serving.ledger import read_ledger

WAIT_S = 120.0
THROTTLED_S = float(os.environ.get("REKOGNITION_THROTTLED_S", "8"))
IS_LONG = THROTTLED_S > 60.0
FALLBACKS = ("local", "none") if IS_LONG else ("local",)
SETTINGS = {"PHO_ANALYSIS__ANALYSER": "rekognition", "PHO_REKOGNITION__CALLS_PER_SECOND": "50.0"}
# As they come, in ten minutes; where the test is short, so must be the breaker's patience. Its
# pause must meet a picture, and one visitor's come up to 3 s apart.
QUICKLY = {} if IS_LONG else {"PHO_REKOGNITION__FAILURES": "1", "PHO_REKOGNITION__PAUSE_S": "6.0"}


class Command(Protocol):
    """`tests/scenarios/conftest.py` has it."""

    def start(self, *arguments: object, settings: Any = None) -> subprocess.Popen[str]: ...
    def output(self, process: subprocess.Popen[str]) -> tuple[str, str]: ...


class Shop:
    """What a log holds, as it grows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, stream: str) -> list[tuple[int, Any]]:
        """Return log time and value of each record."""
        log = EmbeddedLog(self.folder)
        try:
            return [(row.log_time_ms, decode(row.value)) for row in log.scan(stream)]
        finally:
            log.close()

    def answers(self, after_ms: int = 0, until_ms: int = 2**62) -> list[FrameAnalyzed]:
        """Return the answers that were written between two times."""
        return [value for at_ms, value in self.read("analyses") if after_ms <= at_ms < until_ms]

    def wait(self, what: str, count: int, after_ms: int) -> float:
        """Wait for answers that `how` tells of; return how long that took, seconds."""
        began_s = time.monotonic()
        while Counter(map(how, self.answers(after_ms)))[what] < count:
            assert time.monotonic() - began_s < WAIT_S, self.tally(after_ms)
            time.sleep(0.25)
        return time.monotonic() - began_s

    def tally(self, after_ms: int = 0, until_ms: int = 2**62) -> dict[str, int]:
        """Count the answers between two times, by who gave them and why."""
        return dict(Counter(map(how, self.answers(after_ms, until_ms))))

    def waits_ms(self, after_ms: int, until_ms: int) -> list[int]:
        """Return how long each visitor waited for the decision, in order of length, ms."""
        came = {f.decision_id: at_ms for at_ms, f in self.read("frames") if f.phase == "pre"}
        made = {value.choice.decision_id: at_ms for at_ms, value in self.read("decisions")}
        found = [made[name] - came[name] for name in came if after_ms <= came[name] < until_ms]
        return sorted(found)


def how(answer: FrameAnalyzed) -> str:
    """Say in a word who answered, and why another than Rekognition."""
    why = NotAsked.read(answer.error)
    reason = why.reason if why is not None else "refused" if answer.error else ""
    return " ".join(part for part in (answer.status, answer.analyser, reason) if part)


def now_ms() -> int:
    """Return this machine's clock, which is the log's."""
    return time.time_ns() // 1_000_000


def end(processes: Iterable[subprocess.Popen[str]]) -> None:
    """End them in order."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0


@pytest.mark.timeout(THROTTLED_S + 400)
@pytest.mark.parametrize("fallback", FALLBACKS)
def test_throttled_every_visitor_is_greeted_and_it_is_asked_again(
    pho: Command, tmp_path: Path, fallback: str
) -> None:
    shop = Shop(tmp_path / "shop")
    with LocalRekognition(LocalAnalyser()) as looking, FaultyAws(looking.endpoint, Faults()) as aws:
        told = {"PHO_AWS__ENDPOINT": aws.endpoint, "PHO_REKOGNITION__FALLBACK": fallback}
        told["PHO_AWS__REGION"] = "eu-central-1"
        settings = {**SETTINGS, **QUICKLY, **told}
        job = pho.start("run", "--watch", "--data", shop.folder, settings=settings)
        door = ("camera", "recorded", "--notice", "posted", "--data", shop.folder)
        camera = pho.start(*door)
        shop.wait("ok rekognition", 1, 0)
        aws.throttle_all, began_ms = True, now_ms()
        time.sleep(THROTTLED_S)
        instead = f"ok {fallback}" if fallback == "local" else "failed none"
        shop.wait(f"{instead} breaker_open", 1, began_ms)
        ended_ms, refused = now_ms(), aws.done["throttled"]
        aws.throttle_all = False
        again_s = shop.wait("ok rekognition", 1, ended_ms)
        end((camera, job))
    during, waits_ms = shop.tally(began_ms, ended_ms), shop.waits_ms(began_ms, ended_ms)
    frames = [frame.frame_id for _, frame in shop.read("frames")]
    answers = Counter(answer.frame_id for answer in shop.answers())
    alarms = [value for _, value in shop.read("alarms")]
    print(  # noqa: T201
        f"\nfallback {fallback}: throttled {(ended_ms - began_ms) / 1_000:.0f} s, {refused:,} "
        f"calls refused; before {shop.tally(0, began_ms)}, during {during}, after "
        f"{shop.tally(ended_ms)}; asked again with success {again_s:.1f} s after; visitors waited "
        f"{waits_ms[len(waits_ms) // 2]} ms, at most {waits_ms[-1]} ms; the camera said "
        f"{pho.output(camera)[0].splitlines()[-3:]}; alarms {alarms}"
    )
    assert answers == Counter(dict.fromkeys(frames, 1)), "each picture is answered once"
    assert not [name for name in during if name.startswith(("expired", "refused"))]
    made = [value for _, value in shop.read("decisions")]
    assert all(isinstance(decision, DecisionMade) for decision in made)
    assert {each.kind for each in alarms if isinstance(each, AlarmRaised)} == {"analyser_failing"}
    # One an hour, and a test of ten minutes may meet two hours.
    assert 1 <= len(alarms) <= 2
    log = EmbeddedLog(shop.folder)
    assert read_ledger(log).balanced
    log.close()
