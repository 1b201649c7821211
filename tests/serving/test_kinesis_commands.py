"""Commands where the log is on Kinesis, as their users type them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import worlds
from connectors.clocks import WallClock
from kinesis_servers import fresh_address, open_log
from schemas.errors import CloudAction, CloudError, LogUnavailable
from schemas.streams import STREAMS
from serving.kinesis_opening import patiently

NOWHERE = "kinesis://eu-central-1/shop?endpoint=http://127.0.0.1:9"


class Waited:
    """A flag to stop, for which nobody waits."""

    waits = 0
    stopped = False

    def is_set(self) -> bool:
        return self.stopped

    def wait(self, _timeout: float, /) -> bool:
        self.waits += 1
        return self.stopped


def test_streams_are_made_listed_shown_and_checked(pho: Any) -> None:
    address = fresh_address()
    made = pho("topics", "create", "--log", address, "--json").json
    assert len(made["created"]) == len(STREAMS) - 1
    assert pho("topics", "create", "--log", address, "--json").json["created"] == []
    log = open_log(address)
    log.append("frames", worlds.captured("v1", "pre", 0, WallClock()(), 0.2))
    listed = {
        each["stream"]: each["records"] for each in pho("topics", "--log", address, "--json").json
    }
    assert listed["frames"] == 1
    (shown,) = pho("topics", "frames", "--last", "3", "--log", address, "--json").json
    assert shown["record"]["decision_id"] == "v1"
    assert pho("ledger", "--log", address, "--json").json["balanced"]
    found = {each["what"]: each for each in pho("doctor", "--log", address, "--json").json}
    assert found["kinesis"]["state"] == found["clock"]["state"] == found["ledger"]["state"] == "ok"


@pytest.mark.parametrize(
    "command",
    [
        ("replay",),
        ("forget", "v1"),
        ("archive", "--archive", "a"),
        ("watch", "--once"),
        ("policy", "ls"),
        ("dead-letters", "--replay"),
        ("topics", "create", "--mend"),
        ("topics", "create", "--streams", "frames"),
        ("bridge", "--from", "kinesis://eu-central-1/other"),
        ("ticks",),
        ("submit",),
        ("demo",),
    ],
)
def test_what_does_not_work_there_is_refused_before_anything_is_asked(
    pho: Any, command: tuple[str, ...]
) -> None:
    ran = pho(*command, "--log", NOWHERE)
    assert ran.status == 2, ran.err
    assert "do:" in ran.err


def test_a_server_that_is_away_is_said(pho: Any) -> None:
    ran = pho("ledger", "--log", NOWHERE)
    assert ran.status == 3
    assert "AWS kinesis" in ran.err


def test_what_is_made_of_a_throttled_kinesis_waits_and_of_a_closed_one_does_not() -> None:
    tries: list[str] = []
    said: list[str] = []

    def made(action: CloudAction, failures: int) -> str:
        tries.append(action)
        if len(tries) > failures:
            return "made"
        cloud = CloudError("ListShards: throttled", "Wait", action, "Throttled")
        raise LogUnavailable(cloud.problem, cloud.cure) from cloud

    stop = Waited()
    assert patiently(lambda: made("retry", 2), stop, said.append) == "made"
    assert (len(tries), stop.waits) == (3, 2)
    assert said == ["ListShards: throttled; waiting for it"]
    with pytest.raises(LogUnavailable):
        patiently(lambda: made("stop", 99), stop, said.append)
    stop.stopped = True
    assert patiently(lambda: made("retry", 99), stop, said.append) is None


def test_streams_that_are_missing_are_named(pho: Any, tmp_path: Path) -> None:
    address = fresh_address()
    for command in ("run", "camera"):
        ran = pho(command, "--data", tmp_path / "shop", "--log", address)
        assert ran.status == 3
        assert "pho topics create --log kinesis://" in "".join(ran.err.split("\n"))
    assert pho("doctor", "--log", address).status == 3
