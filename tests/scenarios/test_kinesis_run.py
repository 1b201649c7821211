"""`pho run` on Kinesis, killed at every step and throttled: nothing lost, nothing twice.

KINESIS_KILLS=all python -m pytest tests/scenarios/test_kinesis_run.py   # each named step, thrice
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

import worlds
from connectors.clocks import WallClock
from connectors.embedded_log import EmbeddedLog
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_intake import INTAKE_STREAMS
from connectors.kinesis_log import KinesisLog
from connectors.kinesis_publisher import PUBLISHED_STREAMS
from connectors.kinesis_streams import KINESIS_STREAMS
from connectors.logs import Row
from faulty_aws import Faults, FaultyAws
from kinesis_servers import fresh_address, make_streams, merge, open_log, split
from schemas.codec import decode
from schemas.decisions import GreetingIssued
from schemas.errors import LogUnavailable
from schemas.operations import SideRecord
from schemas.outcomes import OutcomeClosed
from serving.ledger import read_ledger

FAULTS = Faults(throttled=0.03, failed=0.01, reset=0.01, lost=0.02)
SETTINGS = {
    "PHO_KINESIS__READS_PER_SECOND": "10.0",
    "PHO_KINESIS__DELIVERY_TIMEOUT_MS": "3000",
    # Long: a visit closes when it ended and its pictures are answered, not when time is up, and a
    # job that was killed takes long to come back on a busy machine.
    "PHO_LOOPS__GREETING__RULES__REWARD_WINDOW_MS": "600000",
    "PHO_LOOPS__GREETING__RULES__DEDUP_HORIZON_MS": "1800000",
}
WAIT_S = 90.0
"""Two seconds are usual; a machine that is busy with other tests takes long to start a job."""
REACTION_S = 1.2
"""Nobody smiles sooner: the loop counts no picture of the first second."""
STEPS = ("intake.records", "commit.outputs", "publish.sent", "publish.noted:2")
ALL_STEPS = tuple(
    f"{name}:{number}"
    for name in (
        *("intake.begin", "intake.records", "intake.end"),
        *("commit.begin", "commit.outputs", "commit.changes", "commit.after"),
        *("publish.begin", "publish.sent", "publish.noted"),
    )
    for number in (1, 2, 5)
)


class Command(Protocol):
    """`tests/scenarios/conftest.py` has it."""

    def start(self, *arguments: object, settings: Any = None) -> subprocess.Popen[str]: ...
    def output(self, process: subprocess.Popen[str]) -> tuple[str, str]: ...


class Kiosk:
    """Visitors whose faces are numbers, at the other side of Kinesis."""

    def __init__(self, log: KinesisLog) -> None:
        self.log = log
        self.clock = WallClock()
        self.tail = log.tail("greetings")
        self.greeted: dict[str, GreetingIssued] = {}

    def arrive(self, visits: list[str]) -> None:
        """Send the first picture of each."""
        at_ms = self.clock()
        self._send([("frames", worlds.captured(v, "pre", 0, at_ms, 0.2)) for v in visits])

    def see_greetings(self, visits: list[str], wait_s: float) -> None:
        """Wait for the greetings of all, and show them; smile; leave."""
        until_s = time.monotonic() + wait_s
        waiting = set(visits)
        while waiting and time.monotonic() < until_s:
            try:
                rows = self.tail.poll(0.2)
            except LogUnavailable:
                continue
            for row in rows:
                greeting = decode(row.value)
                if greeting.visit_id in waiting:
                    waiting.discard(greeting.visit_id)
                    self.greeted[greeting.visit_id] = greeting
                    shown = worlds.shown(greeting.visit_id, greeting.action_id, self.clock())
                    self._send([("impressions", shown)])
        assert not waiting, f"no greeting came for {sorted(waiting)}"
        time.sleep(REACTION_S)
        now_ms = self.clock()
        self._send([("frames", worlds.captured(v, "post", 1, now_ms, 0.7)) for v in visits])
        self._send([("visits", worlds.ended(v, now_ms + 1, posts=1)) for v in visits])

    def _send(self, records: list[tuple[str, Any]]) -> None:
        while True:
            try:
                self.log.append_all(records)
                return
            except LogUnavailable:
                time.sleep(0.2)


def outcomes(rows: list[Row]) -> Counter[str]:
    """Return how often each decision's outcome stands there."""
    values = [decode(row.value) for row in rows if row.stream == "outcomes"]
    return Counter(v.choice.decision_id for v in values if isinstance(v, OutcomeClosed))


def check(address: KinesisAddress, folder: Path, visits: list[str]) -> list[Row]:
    """Compare what Kinesis holds with the job's file, and both with who came."""
    log = open_log(address)
    there = list(log.scan())
    file = EmbeddedLog(folder)
    here = list(file.scan())
    assert outcomes(there) == Counter(visits)
    assert outcomes(here) == Counter(visits)
    for stream in PUBLISHED_STREAMS:
        if stream == "policies":
            continue  # the file keeps the newest alone
        mine = Counter((row.key, row.value) for row in here if row.stream == stream)
        theirs = Counter((row.key, row.value) for row in there if row.stream == stream)
        assert theirs == mine, stream
    for stream in INTAKE_STREAMS:
        mine = Counter((row.key, row.value) for row in here if row.stream == stream)
        theirs = Counter((row.key, row.value) for row in there if row.stream == stream)
        assert theirs == mine, stream
    times = [row.log_time_ms for row in here]
    assert times == sorted(times)
    assert read_ledger(file).balanced
    assert read_ledger(log).balanced
    assert read_ledger(log).decisions == len(visits)
    assert read_ledger(log).rewarded == len(visits)
    file.close()
    return there


def closed(address: KinesisAddress, count: int, wait_s: float) -> None:
    """Wait until so many outcomes stand on Kinesis."""
    log = open_log(address)
    until_s = time.monotonic() + wait_s
    while time.monotonic() < until_s:
        if outcomes(list(log.scan("outcomes"))).total() >= count:
            return
        time.sleep(0.5)


def end(process: subprocess.Popen[str]) -> None:
    """End a job in order."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0


@pytest.mark.timeout(900)
def test_killed_at_named_steps_nothing_is_lost_or_doubled(pho: Command, tmp_path: Path) -> None:
    steps = ALL_STEPS if os.environ.get("KINESIS_KILLS") == "all" else STEPS
    address = fresh_address()
    make_streams(address, shards=1, streams=KINESIS_STREAMS)
    run = ("run", "--data", tmp_path / "shop", "--log", address)
    log = open_log(address)
    kiosk = Kiosk(log)
    visits: list[str] = []
    died = 0
    for number, step in enumerate(steps):
        at = step if ":" in step else f"{step}:1"
        job = pho.start(*run, settings={**SETTINGS, "PHO_CRASH_AT": at})
        until_s = time.monotonic() + WAIT_S
        # Visitors come until it dies, so that every step comes as often as it is asked for.
        for each in range(1_000):
            visits.append(f"v{number}-{each}")
            kiosk.arrive(visits[-1:])
            time.sleep(1.0)
            if job.poll() is not None or time.monotonic() > until_s:
                break
        if job.poll() is None:
            job.kill()
        assert job.wait() == -signal.SIGKILL, pho.output(job)
        died += time.monotonic() < until_s
    assert died == len(steps), "the named steps are where it ended"
    job = pho.start(*run, settings=SETTINGS)
    kiosk.see_greetings(visits, WAIT_S)
    closed(address, len(visits), WAIT_S)
    end(job)
    kiosk.tail.close()
    check(address, tmp_path / "shop", visits)


@pytest.mark.timeout(600)
def test_throttled_it_waits_and_catches_up(pho: Command, tmp_path: Path) -> None:
    address = fresh_address()
    make_streams(address, shards=1, streams=KINESIS_STREAMS)
    with FaultyAws(address.endpoint, FAULTS) as proxy:
        faulty = replace(address, endpoint=proxy.endpoint)
        job = pho.start("run", "--data", tmp_path / "shop", "--log", faulty, settings=SETTINGS)
        kiosk = Kiosk(open_log(address))
        first, second = ["a1", "a2", "a3"], ["b1", "b2", "b3"]
        kiosk.arrive(first)
        kiosk.see_greetings(first, WAIT_S)
        proxy.throttle_all = True
        kiosk.arrive(second)
        time.sleep(float(os.environ.get("KINESIS_THROTTLED_S", "6")))
        assert not any(visit in kiosk.greeted for visit in second)
        proxy.throttle_all = False
        kiosk.see_greetings(second, WAIT_S)
        split(address, "frames")
        third = ["c1", "c2"]
        kiosk.arrive(third)
        merge(address, "frames")
        kiosk.see_greetings(third, WAIT_S)
        closed(address, 8, WAIT_S)
        end(job)
        kiosk.tail.close()
        assert proxy.done["throttled"] > 5
    told = pho.output(job)[1]
    assert "trying on" in told
    check(address, tmp_path / "shop", [*first, *second, *third])


@pytest.mark.timeout(600)
def test_poison_in_a_shard_is_a_dead_letter_and_the_shard_goes_on(
    pho: Command, tmp_path: Path
) -> None:
    address = fresh_address()
    make_streams(address, shards=1, streams=KINESIS_STREAMS)
    log = open_log(address)
    kiosk = Kiosk(log)
    poison = [
        b"",
        b"none of ours",
        b"\xf3\x89\x9a\xc2 torn and packed, as it seems",
        b"\xc3\x01" * 9,
    ]
    job = pho.start("run", "--data", tmp_path / "shop", "--log", address, settings=SETTINGS)
    log.append_bytes([("frames", f"k{n}", raw) for n, raw in enumerate(poison)])
    kiosk.arrive(["v1"])
    kiosk.see_greetings(["v1"], WAIT_S)
    closed(address, 1, WAIT_S)
    end(job)
    kiosk.tail.close()
    there = check(address, tmp_path / "shop", ["v1"])
    letters = [decode(row.value) for row in there if row.stream == "dead-letters"]
    assert all(isinstance(letter, SideRecord) for letter in letters)
    assert Counter(letter.raw for letter in letters) == Counter(poison)
    assert read_ledger(open_log(address)).dead_letters == len(poison)
