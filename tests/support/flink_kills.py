"""A campaign of kills under load: who is killed when comes from a seed."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

from connectors.kafka_log import KafkaLog
from connectors.pictures import FolderPictures
from flink_account import OUTPUTS, Account, Kill, check, read_account
from flink_stand import SUPPORT, Stand
from schemas.errors import PhoError

KINDS = ("taskmanager", "jobmanager", "broker", "camera")
FLOWING_S = 300.0
CLOSED_S = 120.0
STILL_S = 8.0
"""Longer than a window with its grace, 5.5 s: the last windows have closed by then."""
ACCOUNTS_MAX = 3
"""A job that is starting again is silent for longer: the account then lacks what it owes."""


class Campaign:
    """A stand under load.

    Parameters
    ----------
    stand : Stand
        Started, with its jobs.
    rate : float
        Visits a second.
    share : float
        Share of visits with pictures, which take 50 ms each to look at.
    say : callable
        Told what happens.
    """

    def __init__(
        self, stand: Stand, rate: float, share: float, say: Callable[[str], None] = print
    ) -> None:
        self.stand = stand
        self.rate = rate
        self.share = share
        self.say = say
        self.kills: list[Kill] = []
        self._cameras = 0
        stand.start_ticker()
        self.start_camera()

    @property
    def journals(self) -> list[Path]:
        """What the cameras wrote."""
        return [self.stand.folder / f"c{number}.txt" for number in range(self._cameras)]

    def start_camera(self) -> None:
        """Start a process that plays visitors."""
        name = f"c{self._cameras}"
        self._cameras += 1
        script = [sys.executable, str(SUPPORT / "flink_load.py")]
        where = ["--log", str(self.stand.address), "--name", name, "--rate", str(self.rate)]
        journal = ["--journal", str(self.stand.folder / f"{name}.txt")]
        pictures = ["--pictures", str(self.stand.pictures), "--share", str(self.share)]
        self.stand.start_beside("camera", [*script, *where, *journal, *pictures])

    def kill(self, what: str, chance: random.Random) -> None:
        """Kill one of them, have it started again, and wait until visitors are greeted again."""
        at_ms = time.time_ns() // 1_000_000
        match what:
            case "taskmanager":
                self.stand.kill_taskmanager(chance.randrange(self.stand.flink.count))
            case "jobmanager":
                self.stand.kill_jobmanager()
            case "broker":
                self.stand.kill_broker()
            case _:
                self.stand.end_beside("camera", signal.SIGKILL)
                self.start_camera()
        back_ms = time.time_ns() // 1_000_000
        self.kills.append(Kill(what, at_ms, back_ms))
        self.flow(back_ms)
        flows_s = time.time() - at_ms / 1_000
        self.say(
            f"{what} killed; its process back after {(back_ms - at_ms) / 1e3:.1f} s, "
            f"visitors greeted again by {flows_s:.1f} s"
        )

    def flow(self, after_ms: int, greetings: int = 10) -> None:
        """Wait until visitors who came later than that are greeted."""
        until_s = time.monotonic() + FLOWING_S
        tail = _Followed(self.journals[-1])
        while time.monotonic() < until_s:
            self.stand.check_beside()
            self.stand.revive()
            greetings -= sum(came_ms > after_ms for came_ms in tail.greeted())
            if greetings <= 0:
                return
            time.sleep(0.1)
        problem = f"nobody greeted for {FLOWING_S} s\n{_told(self.stand)}"
        raise AssertionError(problem)

    def finish(self) -> Account:
        """Let the last visitors leave, and wait until all is closed; return the account."""
        self.stand.end_beside("camera")
        with self.stand.log() as log:
            for _ in range(ACCOUNTS_MAX):
                self._wait_until_still(log)
                account = read_account(log)
                found = check(account, log, self.journals)
                if not found:
                    break
        left = self._pictures_left()
        if left:
            found.append(f"{len(left)} pictures are left: {left[:3]}")
        assert not found, "\n".join([*found, _told(self.stand)])
        return account

    def _pictures_left(self) -> list[str]:
        """Return the pictures that nobody deletes: a killed camera's are swept after a minute."""
        until_s = time.monotonic() + CLOSED_S
        pictures = FolderPictures(self.stand.pictures)
        while (left := pictures.ids()) and time.monotonic() < until_s:
            time.sleep(0.5)
        return left

    def _wait_until_still(self, log: KafkaLog) -> None:
        """Wait until the jobs write nothing any more.

        An account takes minutes to read after 10^5 visits: of a log that goes on it would hold
        outcomes of windows that closed while it was read.
        """
        last, still_s = None, time.monotonic()
        until_s = still_s + CLOSED_S
        while (now_s := time.monotonic()) < min(until_s, still_s + STILL_S):
            self.stand.revive()
            newest = log.newest(*OUTPUTS, ticks=False)
            places = {place: row and row.position for place, row in newest.items()}
            if places != last:
                last, still_s = places, now_s
            time.sleep(0.5)


class _Followed:
    """Reads what is added to a journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def greeted(self) -> list[int]:
        """Return when the visitors came who were greeted since the last call, ms."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._offset += end
        words = [line.split() for line in data[:end].decode().splitlines()]
        return [int(w[2]) - int(w[3]) for w in words if w[0] == "greeting"]


def _told(stand: Stand) -> str:
    try:
        return stand.errors()
    except PhoError as error:
        return str(error)


def report(campaign: Campaign, account: Account) -> list[str]:
    """Return what the kills cost, for a person to read."""
    lines = [
        f"{len(account.frames):,} frames, {len(account.decided):,} decisions, "
        f"{len(campaign.kills)} kills; {account.ledger}",
        f"TaskManagers that ended by themselves and were started again: {campaign.stand.revived}",
    ]
    for kind in KINDS:
        for stream in ("greetings", "outcomes"):
            gaps = [
                account.gap(stream, kill.at_ms, then.at_ms if then else None)
                for kill, then in zip_longest(campaign.kills, campaign.kills[1:])
                if kill.what == kind
            ]
            if gaps:
                after = sorted(gap.after_ms / 1e3 for gap in gaps)
                lines.append(
                    f"{kind:12s} {stream:10s} again after {after[len(after) // 2]:5.1f} s, "
                    f"at the most {after[-1]:5.1f} s ({len(gaps)} kills)"
                )
    for stream, written in account.written.items():
        lines.append(
            f"{stream:12s} {written:8,} written, {account.repeats[stream]:6,} repeats, "
            f"{account.differing[stream]:6,} in other bytes"
        )
    lines += [f"{reason}: {n}, {account.examples[reason]}" for reason, n in account.asides.items()]
    return lines
