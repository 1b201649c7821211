"""`pho run` on Kinesis, killed at every step and throttled: nothing lost, nothing twice.

KINESIS_KILLS=all python -m pytest tests/scenarios/test_kinesis_run.py   # each named step, thrice
KINESIS_THROTTLED_S=600 python -m pytest -s tests/scenarios/test_kinesis_run.py -k throttled
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
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
HARD = Faults(throttled=0.05, failed=0.03, reset=0.03, lost=0.06)
SETTINGS = {
    "PHO_KINESIS__READS_PER_SECOND": "10.0",
    "PHO_KINESIS__DELIVERY_TIMEOUT_MS": "3000",
    # Long: a visit closes when it ended and its pictures are answered, not when time is up, and a
    # job that was killed takes long to come back on a busy machine.
    "PHO_LOOPS__GREETING__RULES__REWARD_WINDOW_MS": "600000",
    "PHO_LOOPS__GREETING__RULES__DEDUP_HORIZON_MS": "1800000",
}
WAIT_S = 150.0
"""Two seconds are usual; a machine that is busy with other tests takes long to start a job."""
REACTION_S = 1.2
"""Nobody smiles sooner: the loop counts no picture of the first second."""
THROTTLED_S = float(os.environ.get("KINESIS_THROTTLED_S", "6"))
STEPS = ("intake.records:1", "commit.outputs:1", "publish.sent:1", "publish.noted:2")
ALL_STEPS = tuple(
    tuple(f"{name}:{number}" for number in (1, 2, 5))
    for name in (
        *("intake.begin", "intake.records", "intake.end"),
        *("commit.begin", "commit.outputs", "commit.changes", "commit.after"),
        *("publish.begin", "publish.sent", "publish.noted"),
    )
)
# A campaign has streams of its own: the local server slows as it fills. Behind a server that fails
# and loses answers as well, a killed job leaves more in doubt.
CAMPAIGNS: tuple[tuple[tuple[str, ...], Faults], ...] = ((STEPS, Faults()),)
if os.environ.get("KINESIS_KILLS") == "all":
    CAMPAIGNS = tuple((steps, faults) for faults in (Faults(), HARD) for steps in ALL_STEPS)


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
            came = [decode(row.value) for row in rows]
            new = {each.visit_id: each for each in came if each.visit_id in waiting}
            waiting -= set(new)
            self.greeted |= new
            now_ms = self.clock()
            self._send(
                [("impressions", worlds.shown(v, g.action_id, now_ms)) for v, g in new.items()]
            )
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


def decisions(rows: list[Row]) -> Counter[str]:
    """Return how often each decision stands there."""
    return Counter(row.key for row in rows if row.stream == "decisions")


def check(
    address: KinesisAddress, folder: Path, visits: list[str], seen: list[str] | None = None
) -> list[Row]:
    """Compare what Kinesis holds with the job's file, and both with who came.

    All `visits` smiled. Of those a camera has `seen`, who left before the job came to decide stays
    open until the window is over, ten minutes here.
    """
    log = open_log(address)
    there = list(log.scan())
    file = EmbeddedLog(folder)
    here = list(file.scan())
    came = [*visits, *(seen or ())]
    for rows in (there, here):
        assert decisions(rows) == Counter(came)
        assert outcomes(rows) <= Counter(came)
        assert outcomes(rows) >= Counter(visits)
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
    assert read_ledger(log).decisions == len(came)
    smiled = [decode(row.value) for row in there if row.stream == "outcomes"]
    by_id = {v.choice.decision_id: v.result for v in smiled if isinstance(v, OutcomeClosed)}
    assert {by_id[visit] for visit in visits} == {"rewarded"}
    file.close()
    return there


def closed(address: KinesisAddress, visits: list[str], wait_s: float) -> None:
    """Wait until the outcomes of all stand on Kinesis."""
    log = open_log(address)
    until_s = time.monotonic() + wait_s
    while time.monotonic() < until_s:
        if outcomes(list(log.scan("outcomes"))) >= Counter(visits):
            return
        time.sleep(0.5)


def end(process: subprocess.Popen[str]) -> None:
    """End a job in order."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 0


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("steps", "faults"),
    CAMPAIGNS,
    ids=[f"{steps[0].partition(':')[0]}{'-hard' * (f == HARD)}" for steps, f in CAMPAIGNS],
)
def test_killed_at_named_steps_nothing_is_lost_or_doubled(
    pho: Command, tmp_path: Path, steps: tuple[str, ...], faults: Faults
) -> None:
    address = fresh_address()
    make_streams(address, shards=1, streams=KINESIS_STREAMS)
    with FaultyAws(address.endpoint, faults) as proxy:
        faulty = replace(address, endpoint=proxy.endpoint)
        visits = killed(pho, address, faulty, tmp_path / "shop", steps)
    check(address, tmp_path / "shop", visits)


def killed(
    pho: Command, address: KinesisAddress, faulty: KinesisAddress, shop: Path, steps: Iterable[str]
) -> list[str]:
    """Let visitors come to a job that dies at each step; return them when all are closed."""
    run = ("run", "--data", shop, "--log", faulty)
    kiosk = Kiosk(open_log(address))
    visits: list[str] = []
    for number, step in enumerate(steps):
        job = pho.start(*run, settings={**SETTINGS, "PHO_CRASH_AT": step})
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
        assert time.monotonic() < until_s, "the named step is where it ended"
    job = pho.start(*run, settings=SETTINGS)
    kiosk.see_greetings(visits, WAIT_S)
    closed(address, visits, WAIT_S)
    end(job)
    kiosk.tail.close()
    return visits


class Behind:
    """How far a job is behind its streams, seen from outside."""

    def __init__(self, address: KinesisAddress, folder: Path) -> None:
        self.address = address
        self.folder = folder

    def frames(self) -> int:
        """Count the frames on Kinesis that the job did not take yet."""
        there = sum(1 for _ in open_log(self.address).scan("frames"))
        file = EmbeddedLog(self.folder)
        here = file.counts()["frames"]
        file.close()
        return there - here

    def caught_up(self, wait_s: float) -> float:
        """Wait until it has taken every frame; return how long that took, seconds."""
        began_s = time.monotonic()
        while self.frames():
            assert time.monotonic() - began_s < wait_s, "it does not catch up"
            time.sleep(0.5)
        return time.monotonic() - began_s


def seen_by_camera(address: KinesisAddress) -> list[str]:
    """Return the visits whose first picture the camera `door` sent, those it sent twice once."""
    frames = [decode(row.value) for row in open_log(address).scan("frames")]
    return sorted({f.visit_id for f in frames if f.kiosk_id == "door" and f.phase == "pre"})


def answered(address: KinesisAddress, visits: list[str], wait_s: float) -> list[str]:
    """Wait until the first picture of each is answered; return those it was not too old for.

    What was sent a moment before ten minutes of silence is `expired` after them, and decides
    nothing.
    """
    until_s = time.monotonic() + wait_s
    while True:
        answers = [decode(row.value) for row in open_log(address).scan("analyses")]
        told = {each.visit_id: each.status for each in answers if each.phase == "pre"}
        if told.keys() >= set(visits):
            return [visit for visit in visits if told[visit] != "expired"]
        assert time.monotonic() < until_s, "somebody is never answered"
        time.sleep(0.5)


def camera_counters(told: str) -> dict[str, int]:
    """Read the numbers at the end of what `pho camera` said; lines are broken anywhere."""
    last = " ".join(told[told.rindex("shots ") :].split())
    pairs = [each.rpartition(" ") for each in last.split(", ")]
    return {name: int(number) for name, _, number in pairs}


@pytest.mark.timeout(THROTTLED_S + 600)
def test_throttled_it_waits_up_to_the_camera_and_catches_up(pho: Command, tmp_path: Path) -> None:
    address, shop = fresh_address(), tmp_path / "shop"
    make_streams(address, shards=1, streams=KINESIS_STREAMS)
    behind = Behind(address, shop)
    with FaultyAws(address.endpoint, FAULTS) as proxy:
        faulty = replace(address, endpoint=proxy.endpoint)
        of_both = ("--data", shop, "--log", faulty)
        job = pho.start("run", *of_both, settings=SETTINGS)
        door = ("camera", "recorded", "--notice", "posted", "--kiosk", "door", *of_both)
        camera = pho.start(*door, settings=SETTINGS)
        kiosk = Kiosk(open_log(address))
        first = ["a1", "a2", "a3"]
        second: list[str] = []
        kiosk.arrive(first)
        kiosk.see_greetings(first, WAIT_S)
        until_s = time.monotonic() + WAIT_S
        while not seen_by_camera(address) and time.monotonic() < until_s:
            time.sleep(0.5)
        proxy.throttle_all = True
        time.sleep(1.0)  # what was on its way
        known = len(seen_by_camera(address))
        until_s = time.monotonic() + THROTTLED_S
        while time.monotonic() < until_s:
            second.append(f"b{len(second)}")
            kiosk.arrive(second[-1:])
            time.sleep(2.0)
        assert not any(visit in kiosk.greeted for visit in second)
        assert len(seen_by_camera(address)) == known, "the camera waits as well"
        assert (job.poll(), camera.poll()) == (None, None)
        frames, throttled = behind.frames(), proxy.done["throttled"]
        assert frames >= len(second)
        proxy.throttle_all = False
        took_s = behind.caught_up(WAIT_S)
        kiosk.see_greetings(second, WAIT_S)
        split(address, "frames")
        third = ["c1", "c2"]
        kiosk.arrive(third)
        merge(address, "frames")
        kiosk.see_greetings(third, WAIT_S)
        until_s = time.monotonic() + WAIT_S
        while len(seen_by_camera(address)) == known and time.monotonic() < until_s:
            time.sleep(0.5)
        end(camera)
        seen = seen_by_camera(address)
        assert len(seen) > known, "the camera goes on by itself"
        in_time = answered(address, seen, WAIT_S)
        closed(address, [*first, *second, *third], WAIT_S)
        end(job)
        kiosk.tail.close()
    said, told = pho.output(camera)[0], pho.output(job)[1]
    refusals = re.findall(r"[^.]*ProvisionedThroughput[^.]*\.", " ".join(said.split()))
    print(  # noqa: T201
        f"\nthrottled {THROTTLED_S:.0f} s: {throttled:,} calls refused, the job {frames} frames "
        f"behind; caught up {took_s:.1f} s after; the camera said {len(refusals)} times: "
        f"{refusals[:1]}; the job: {' '.join(told.split())}; counters {camera_counters(said)}; "
        f"{len(seen) - len(in_time)} expired"
    )
    assert throttled > 5
    assert "trying on" in told
    assert refusals
    assert camera_counters(said)["visits started"] == len(seen)
    assert len(seen) - len(in_time) <= 1, "at most what was on its way when it began"
    check(address, shop, [*first, *second, *third], in_time)


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
    closed(address, ["v1"], WAIT_S)
    end(job)
    kiosk.tail.close()
    there = check(address, tmp_path / "shop", ["v1"])
    letters = [decode(row.value) for row in there if row.stream == "dead-letters"]
    assert all(isinstance(letter, SideRecord) for letter in letters)
    assert Counter(letter.raw for letter in letters) == Counter(poison)
    assert read_ledger(open_log(address)).dead_letters == len(poison)
