"""`pho up`: everything in one process tree; whatever dies comes back, and nobody notices much."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from connectors.embedded_log import EmbeddedLog
from running_gateways import free_port
from schemas.codec import decode
from schemas.outcomes import OutcomeClosed
from served_shops import QUICK, hasty_world
from told_pages import Playing, ToldPage
from waiting import wait_until

PATIENCE_MS = 30_000
"""A job that was killed takes seconds to come back, and a greeting expires with its window."""
FLAGS = {**QUICK, "loops.greeting.rules.reward_window_ms": PATIENCE_MS}
SETTINGS = {
    f"PHO_{name.upper().replace('.', '__')}": str(
        list(value) if isinstance(value, tuple) else value
    )
    for name, value in FLAGS.items()
}


class Command(Protocol):
    """`tests/scenarios/conftest.py` has it."""

    def start(self, *arguments: object, settings: Any = None) -> subprocess.Popen[str]: ...
    def output(self, process: subprocess.Popen[str]) -> tuple[str, str]: ...
    def run(self, *arguments: object, settings: Any = None) -> tuple[int, str, str]: ...


class Shop:
    """`pho up` on a folder, and a look at what it did."""

    def __init__(self, pho: Command, folder: Path, *options: object) -> None:
        self.pho = pho
        self.folder = folder
        self.port = free_port()
        self.process = pho.start(
            *("up", "--data", folder, "--port", self.port, *options), settings=SETTINGS
        )

    @property
    def said(self) -> str:
        """What it said so far, both ways."""
        return "".join(self.pho.output(self.process))

    def wait_until_it_answers(self) -> None:
        wait_until(
            lambda: "owner's page:" in self.said and answers(self.port), 90.0, lambda: self.said
        )

    def child(self, command: str) -> int:
        """Return the number of the process that runs `pho COMMAND` for this folder."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                line = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"run_part" in b" ".join(line[:3]) and command.encode() in line[3:4]:
                if str(self.folder).encode() in line:
                    return int(entry.name)
        raise LookupError(command)

    def kill(self, command: str) -> None:
        """Kill a part, and wait until another has taken its place."""
        killed = self.child(command)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: self._other(command, killed), 90.0, lambda: self.said)

    def _other(self, command: str, killed: int) -> bool:
        try:
            return self.child(command) != killed
        except LookupError:
            return False

    def records(self, stream: str) -> list[Any]:
        with closing(EmbeddedLog(self.folder)) as log:
            return [decode(row.value) for row in log.scan(stream)]

    def outcomes(self) -> list[OutcomeClosed]:
        return [each for each in self.records("outcomes") if isinstance(each, OutcomeClosed)]


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def up(pho: Command, folder: Path, *options: object) -> Iterator[Shop]:
    """Run `pho up` until the block ends; it must stop cleanly."""
    shop = Shop(pho, folder, *options)
    try:
        shop.wait_until_it_answers()
        yield shop
    finally:
        shop.process.terminate()
    assert shop.process.wait(40) == 0, shop.said
    assert shop.said.rstrip().endswith("stopped")
    assert "Traceback" not in shop.said
    for command in ("run", "gateway"):
        with pytest.raises(LookupError):
            shop.child(command)


def connect_again(page: ToldPage) -> None:
    """Do what a page does when its socket broke: try until somebody answers."""
    page.close()
    end_s = time.monotonic() + 40.0
    while True:
        try:
            page.connect()
        except (OSError, AssertionError):
            assert time.monotonic() < end_s, "nobody answers any more"
            time.sleep(0.3)
        else:
            return


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_job_and_gateway_are_killed_during_visits_and_nobody_is_lost_or_greeted_twice(
    pho: Command, tmp_path: Path
) -> None:
    with up(pho, tmp_path / "shop") as shop:
        page = ToldPage(shop.port)
        page.connect()
        playing = Playing(page, hasty_world(patience_ms=PATIENCE_MS))
        victims = {1: "run", 2: "gateway"}

        def cut(index: int, when: Callable[[], bool]) -> Callable[[], None]:
            done = False

            def kill_once() -> None:
                nonlocal done
                if not done and when():
                    done = True
                    shop.kill(victims[index])
                    if victims[index] == "gateway":
                        connect_again(page)

            return kill_once

        for index in range(4):
            greeted = len(page.greeted)
            if index == 1:  # before anybody is greeted: the job greets when it is back
                playing.between = cut(index, lambda: True)
            elif index == 2:  # after the greeting: the pictures of the reaction still come
                playing.between = cut(index, lambda g=greeted: len(page.greeted) > g)  # type: ignore[misc]
            else:
                playing.between = lambda: None
            playing.visit(index)
        wait_until(lambda: len(shop.outcomes()) == 4, explain=lambda: shop.said)
        wait_until(lambda: not page.reports, explain=lambda: shop.said)
        page.close()
        decisions = [each.choice.decision_id for each in shop.records("decisions")]
        impressions = [each.decision_id for each in shop.records("impressions")]
        assert len(decisions) == len(set(decisions)) == len(page.greeted) == 4
        assert sorted(impressions) == sorted(set(impressions))
        assert [each["decision_id"] for each in page.greeted] == impressions
        assert sorted(o.choice.decision_id for o in shop.outcomes()) == sorted(decisions)
        assert {each.result for each in shop.outcomes()} == {"rewarded"}
        assert [len(each.post_frame_ids) for each in shop.records("visits")] == [2, 2, 2, 2]
        for said in ("job ended by SIGKILL", "gateway ended by SIGKILL"):
            assert said in shop.said, shop.said
    ledger = json.loads(pho.run("ledger", "--data", shop.folder, "--json")[1])
    assert ledger["balanced"], ledger
    assert ledger["decisions"] == 4
    assert ledger["open"] == 0


@pytest.mark.slow
def test_a_camera_of_this_machine_greets_beside_the_browsers(pho: Command, tmp_path: Path) -> None:
    options = ("--camera", "recorded", "--notice", "posted")
    with up(pho, tmp_path / "shop", *options) as shop:
        wait_until(lambda: len(shop.records("impressions")) > 0, explain=lambda: shop.said)
        # The camera prints the greeting after it has written the impression.
        wait_until(lambda: "camera: " in shop.said, explain=lambda: shop.said)


def test_parts_stop_when_their_supervisor_is_killed(pho: Command, tmp_path: Path) -> None:
    shop = Shop(pho, tmp_path / "shop")
    shop.wait_until_it_answers()
    shop.process.kill()
    shop.process.wait()

    def gone() -> bool:
        for command in ("run", "gateway"):
            try:
                shop.child(command)
            except LookupError:
                continue
            return False
        return True

    wait_until(gone, 30.0)
