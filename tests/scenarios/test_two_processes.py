"""A camera in its own process and the job in another, on one folder, each killed and restarted."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from connectors.embedded_log import EmbeddedLog
from schemas.codec import decode
from schemas.outcomes import OutcomeClosed
from serving.ledger import read_ledger
from waiting import wait_until

RULES = {
    "PHO_LOOPS__GREETING__RULES__REWARD_WINDOW_MS": 4_000,
    "PHO_LOOPS__GREETING__RULES__GRACE_MS": 500,
}
PATIENCE_S = 60.0
"""A step that takes longer on a busy machine is a fault."""


class Command(Protocol):
    """`tests/scenarios/conftest.py` has it."""

    def start(self, *arguments: object, settings: Any = None) -> subprocess.Popen[str]: ...
    def output(self, process: subprocess.Popen[str]) -> tuple[str, str]: ...


class Shop:
    """One folder, its camera and its job."""

    def __init__(self, pho: Command, folder: Path) -> None:
        self.folder = folder
        self.log = EmbeddedLog(folder)
        self._pho = pho
        self._cameras = 0

    def camera(self, visits: int = 1_000) -> subprocess.Popen[str]:
        """Start a camera; each sees other visitors."""
        self._cameras += 1
        line = ("camera", "recorded", "--notice", "posted", "--json")
        more = ("--visits", visits, "--seed", self._cameras, "--data", self.folder)
        return self._pho.start(*line, *more, settings=RULES)

    def job(self) -> subprocess.Popen[str]:
        """Start the job."""
        return self._pho.start("run", "--data", self.folder, settings=RULES)

    def explain(self, *processes: subprocess.Popen[str]) -> str:
        """Return what processes said."""
        return "\n".join(self._pho.output(process)[1] for process in processes)

    def values(self, *streams: str) -> Iterator[Any]:
        """Yield the records of some streams."""
        return (decode(row.value) for row in self.log.scan(*streams))

    def count(self, stream: str) -> int:
        """Count the records of a stream."""
        return self.log.counts()[stream]

    def closed(self) -> Counter[str]:
        """Return how many outcomes each decision has."""
        outcomes = self.values("outcomes")
        return Counter(o.choice.decision_id for o in outcomes if isinstance(o, OutcomeClosed))


@pytest.fixture
def shop(pho: Command, tmp_path: Path) -> Iterator[Shop]:
    a_shop = Shop(pho, tmp_path / "shop")
    yield a_shop
    a_shop.log.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_camera_and_job_are_killed_and_nothing_is_lost_or_doubled(shop: Shop) -> None:
    job, camera = shop.job(), shop.camera()
    # The kiosk dies while its visitor looks at the greeting, then while one is being analysed.
    wait_until(lambda: shop.count("impressions") >= 1, explain=lambda: shop.explain(job, camera))
    _kill(camera)
    camera = shop.camera()
    _one_more(shop, "frames", job, camera)
    _kill(job)
    _one_more(shop, "frames", camera)
    job = shop.job()
    _one_more(shop, "decisions", job, camera)
    _kill(camera)
    _kill(job)
    job, camera = shop.job(), shop.camera(visits=2)
    _one_more(shop, "impressions", job, camera)
    _kill(job)
    job = shop.job()
    camera.wait(PATIENCE_S)
    assert camera.returncode == 0, shop.explain(camera)
    wait_until(
        lambda: shop.closed().total() >= shop.count("decisions"),
        explain=lambda: f"{shop.closed()} of {shop.count('decisions')}",
    )
    wait_until(
        lambda: not os.listdir(shop.folder / "pictures"), explain=lambda: "pictures are left"
    )
    assert job.poll() is None, shop.explain(job)
    _kill(job)
    _nothing_lost_or_doubled(shop)


def _nothing_lost_or_doubled(shop: Shop) -> None:
    frames = Counter(frame.frame_id for frame in shop.values("frames"))
    answers = Counter(answer.frame_id for answer in shop.values("analyses"))
    assert answers == frames
    assert set(frames.values()) == {1}
    decisions = Counter(made.choice.decision_id for made in shop.values("decisions"))
    assert set(decisions.values()) == {1}
    assert shop.closed() == decisions
    assert decisions.total() >= 4
    ledger = read_ledger(shop.log)
    assert ledger.balanced, ledger.problems
    assert (ledger.open, ledger.dead_letters) == (0, 0)
    newest = list(shop.values("policies"))[-1]
    learnable = [o for o in shop.values("outcomes") if isinstance(o, OutcomeClosed) and o.learnable]
    assert newest.version == len(learnable) > 0
    ended = {event.decision_id for event in shop.values("visits")}
    for outcome in shop.values("outcomes"):
        if isinstance(outcome, OutcomeClosed) and outcome.choice.decision_id not in ended:
            # What the kiosk knew of its visitor died with it.
            assert outcome.closed_by == "deadline"
    assert decisions.keys() - ended, "no kiosk was killed while its visitor stood there"


def _one_more(shop: Shop, stream: str, *processes: subprocess.Popen[str]) -> None:
    before = shop.count(stream)
    wait_until(lambda: shop.count(stream) > before, explain=lambda: shop.explain(*processes))


def _kill(process: subprocess.Popen[str]) -> None:
    assert process.poll() is None, "it ended by itself"
    process.kill()
    process.wait()
