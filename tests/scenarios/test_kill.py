"""`kill -9` of the real demo, again and again: it ends as if nobody had ever disturbed it.

KILLS=100 SEED=1 python -m pytest tests/scenarios/test_kill.py -s   # the long campaign

A failure names its seed; the same SEED and KILLS kill at the same places again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import pytest

from connectors.embedded_log import EmbeddedLog
from producers.stretches import load_stretches
from schemas.codec import decode
from schemas.outcomes import OutcomeClosed, PolicySnapshot
from serving.ledger import read_ledger
from serving.replay.running import replay

KILLS = int(os.environ.get("KILLS", "8"))
SEED = int(os.environ.get("SEED", "1"))
VISITS = 16 if KILLS > 20 else 6
STEPS = (
    *["append"] * 4,
    "commit.begin",
    "commit.outputs",
    "commit.changes",
    "commit.places",
    "commit.before",
    "commit.after",
)
"""Where a process ends itself: after an append, or inside a commit."""
PLACES_MAX = 8 * VISITS
"""The n-th of them; a visit makes some 60 appends, Ticks included, and 20 commits."""
RANDOM_SHARE = 0.2
"""Share of the kills that come from outside, at any moment."""


class Command(Protocol):
    """`tests/scenarios/conftest.py` has it."""

    def start(self, *arguments: object, settings: Any = None) -> subprocess.Popen[str]: ...
    def output(self, process: subprocess.Popen[str]) -> tuple[str, str]: ...


@dataclass(frozen=True)
class Told:
    """What a folder holds when the demo is over."""

    records: dict[str, list[Any]]
    """The values of each stream, with their log times, in the order of the log."""
    policy: PolicySnapshot
    """The newest policy."""
    balanced: bool
    """Whether the ledger adds up."""
    pictures: tuple[str, ...]
    """Files in the picture folder."""
    pictures_left: int
    """Whole pictures that the last sweep found: the loop itself had left them."""


def read(folder: Path) -> Told:
    """Read a finished folder."""
    log = EmbeddedLog(folder)
    streams = ("frames", "decisions", "greetings", "impressions", "visits", "outcomes", "ticks")
    records = {
        stream: [(row.log_time_ms, decode(row.value)) for row in log.scan(stream)]
        for stream in streams
    }
    snapshots = [decode(row.value) for row in log.scan("policies")]
    told = Told(
        records,
        max(snapshots, key=lambda snapshot: (snapshot.epoch, snapshot.version)),
        read_ledger(log).balanced,
        tuple(sorted(os.listdir(folder / "pictures"))),
        int(log.fact("demo.pictures_left", -1)),
    )
    log.close()
    return told


def killed_until_done(
    pho: Command, folder: Path, play: tuple[object, ...], chance: random.Random, kills: int
) -> int:
    """Play a demo, killing it until it is done or was killed so often; return how often."""
    arguments = ("demo", *play, "--data", folder, "--json")
    killed = 0
    while True:
        settings = {}
        after_s = None
        if killed < kills:
            if chance.random() < RANDOM_SHARE:
                after_s = chance.uniform(0.2, VISITS / 2)
            else:
                # Small numbers often: a process that dies at its first steps recovers again from
                # the very place where it died.
                number = 1 + int(PLACES_MAX * chance.random() ** 2)
                settings["PHO_CRASH_AT"] = f"{chance.choice(STEPS)}:{number}"
        process = pho.start(*arguments, settings=settings)
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.returncode == 0:
            return killed
        assert process.returncode == -signal.SIGKILL, pho.output(process)[1]
        killed += 1
        # Those of one visitor at most: whatever was answered before is gone.
        assert len(list((folder / "pictures").glob("?" * 32))) <= 3


@pytest.mark.slow
@pytest.mark.timeout(max(150, 12 * KILLS))
def test_a_demo_that_is_killed_again_and_again_ends_as_if_undisturbed(
    pho: Command, tmp_path: Path
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - where to kill, by seed
    killed, demos = 0, 0
    while killed < KILLS:
        demos += 1
        play = ("--visits", VISITS, "--seed", SEED + demos)
        killed += _ends_as_undisturbed(pho, tmp_path / str(demos), play, chance, KILLS - killed)
    sys.stdout.write(f"{killed} kills in {demos} demos of {VISITS} visits\n")


@pytest.mark.slow
def test_a_folder_of_pictures_that_is_played_ends_so_too(pho: Command, tmp_path: Path) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    moments = ["empty", "woman/rest", "woman/smile", "empty", "man/smile", "man/rest", "empty"]
    for number, moment in enumerate(moments):
        cv2.imwrite(str(folder / f"{number}.png"), load_stretches(None).picture(moment, 0))
    chance = random.Random(SEED)  # noqa: S311 - where to kill, by seed
    _ends_as_undisturbed(pho, tmp_path, ("--camera", folder), chance, max(4, KILLS // 5))


def _ends_as_undisturbed(
    pho: Command, place: Path, play: tuple[object, ...], chance: random.Random, kills: int
) -> int:
    undisturbed, disturbed = place / "undisturbed", place / "killed"
    assert killed_until_done(pho, undisturbed, play, chance, 0) == 0
    killed = killed_until_done(pho, disturbed, play, chance, kills)
    expected, found = read(undisturbed), read(disturbed)
    _exactly_once(found)
    assert len(expected.records["decisions"]) >= 2
    for stream, records in expected.records.items():
        assert found.records[stream] == records, f"{stream} differ: {play}, {killed} kills"
    _same_policy(expected.policy, found.policy)
    _replays(disturbed, len(found.records["decisions"]))
    return killed


def _replays(folder: Path, decisions: int) -> None:
    """Run the log again: outcomes, policies and decisions come out as they stand there."""
    log = EmbeddedLog(folder)
    told = replay(log)
    log.close()
    assert told.holds, told.document()
    outcomes, policies, decided = told.verdicts
    assert (outcomes.identical, decided.identical) == (decisions, decisions)
    assert policies.identical >= 1
    assert not any(verdict.beside for verdict in told.verdicts)


def _exactly_once(told: Told) -> None:
    decisions = [value.choice.decision_id for _, value in told.records["decisions"]]
    outcomes = [
        value.choice.decision_id
        for _, value in told.records["outcomes"]
        if isinstance(value, OutcomeClosed)
    ]
    assert len(set(decisions)) == len(decisions)
    assert sorted(outcomes) == sorted(decisions)
    assert told.policy.version == len(outcomes)
    assert told.balanced
    assert told.pictures == ()
    assert told.pictures_left == 0


def _same_policy(expected: PolicySnapshot, found: PolicySnapshot) -> None:
    assert found.checksum == expected.checksum
    assert found.arrays == expected.arrays
    assert found == expected
