"""The log on a local Kinesis: every stream, resharding while records flow, faults on the way."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

import worlds
from connectors.aws_clients import AwsAccess, AwsClients
from connectors.clocks import WallClock
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_log import KinesisLog
from connectors.kinesis_streams import KINESIS_STREAMS, create_streams, describe_streams
from connectors.logs import Row
from faulty_aws import Faults, FaultyAws
from kinesis_servers import (
    READS_PER_SECOND,
    client_of,
    fresh_address,
    make_streams,
    merge,
    open_log,
    open_shards,
    split,
)
from schemas.codec import decode, encode
from schemas.errors import LogUnavailable, UsageError
from schemas.operations import Tick

NOW_MS = worlds.START_MS


def by_key(rows: list[Row]) -> dict[str, list[bytes]]:
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    for row in rows:
        found[row.key].append(row.value)
    return dict(found)


def test_every_stream_takes_its_records_and_gives_them_back() -> None:
    address = fresh_address()
    client = client_of(address)
    made = create_streams(client, address, 2)
    assert sorted(made.created) == sorted(map(address.stream_name, KINESIS_STREAMS))
    assert {one.stream: one.shards for one in made.found}["frames"] == 2
    assert {one.stream: one.shards for one in made.found}["loops"] == 1
    assert create_streams(client, address, 2).created == []

    log = open_log(address)
    config = worlds.loop()
    decision = worlds.decided("v1", NOW_MS, config)
    records: list[tuple[str, Any]] = [
        ("loops", config),
        ("outcomes", config),
        ("frames", worlds.captured("v1", "pre", 0, NOW_MS, 0.2)),
        ("analyses", worlds.analyzed("v1", "pre", 0, NOW_MS, 0.2)),
        ("decisions", decision),
        ("impressions", worlds.shown("v1", "a1", NOW_MS)),
        ("rewards", worlds.rewarded("v1", 1, 0.5, NOW_MS)),
        ("visits", worlds.ended("v1", NOW_MS)),
        ("outcomes", worlds.outcome(decision, 0.5)),
    ]
    before_ms = WallClock()()
    log.append_all(records)
    rows = list(log.scan())
    assert sorted((row.stream, encode(decode(row.value))) for row in rows) == sorted(
        (stream, encode(value)) for stream, value in records
    )
    assert all(before_ms - 2_000 < row.log_time_ms <= WallClock()() + 2_000 for row in rows)
    assert log.counts()["outcomes"] == 2
    assert [row.stream for row in log.last("decisions", 5)] == ["decisions"]
    assert len(log.last("outcomes", 1)) == 1
    assert log.complete_through_ms() == NOW_MS
    assert [row.key for row in log.scan("frames", key="v2")] == []
    assert describe_streams(client, fresh_address()) == {}


def test_what_kinesis_has_no_place_for_is_refused() -> None:
    address = fresh_address()
    log = open_log(address)
    with pytest.raises(UsageError, match="no Ticks"):
        log.append("ticks", Tick(NOW_MS, "me"))
    with pytest.raises(UsageError, match="no bookmark"):
        log.set_bookmark("me", {("frames", 0): 1})
    producer = KinesisLog(client_of(address), address, WallClock(), writable=("frames",))
    with pytest.raises(UsageError, match="only the job writes loops"):
        producer.append("loops", worlds.loop())
    with pytest.raises(LogUnavailable, match="pho topics create"):
        log.append("frames", worlds.captured("v1", "pre", 0, NOW_MS, 0.2))
    with pytest.raises(LogUnavailable, match="pho topics create"):
        list(log.scan("frames"))


def test_a_tail_gives_what_comes_from_now_on() -> None:
    address = fresh_address()
    make_streams(address, streams=("greetings",))
    log = open_log(address)
    log.append_bytes([("greetings", "kiosk-1", b"old")])
    tail = log.tail("greetings", key="kiosk-1")
    try:
        assert tail.poll(0.2) == []
        log.append_bytes([("greetings", "kiosk-1", b"1"), ("greetings", "kiosk-2", b"other")])
        log.append_bytes([("greetings", "kiosk-1", b"2")])
        rows: list[Row] = []
        until_s = time.monotonic() + 5
        while len(rows) < 2 and time.monotonic() < until_s:
            rows += tail.poll(1.0)
        assert [row.value for row in rows] == [b"1", b"2"]
    finally:
        tail.close()


def test_shards_split_and_merge_while_records_flow() -> None:
    address = fresh_address()
    make_streams(address, shards=2, streams=("frames",))
    log = open_log(address)
    tail = log.tail("frames")
    wanted: defaultdict[str, list[bytes]] = defaultdict(list)
    done = threading.Event()

    def write() -> None:
        for number in range(30):
            batch = []
            for key in (f"v{k}" for k in range(7)):
                value = f"{key}:{number}".encode()
                wanted[key].append(value)
                batch.append(("frames", key, value))
            log.append_bytes(batch)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    split(address, "frames")
    merge(address, "frames")
    split(address, "frames")
    writer.join()
    assert done.is_set()
    live: list[Row] = []
    until_s = time.monotonic() + 60
    while len(live) < 210 and time.monotonic() < until_s:
        live += tail.poll(0.5)
    tail.close()
    scanned = list(log.scan("frames"))
    assert len(open_shards(address, "frames")) == 3
    assert len({row.partition for row in scanned}) > 3, "the records lie in parents and children"
    assert by_key(live) == wanted
    assert by_key(scanned) == wanted
    places = [(row.partition, row.position) for row in scanned]
    assert len(set(places)) == len(places)


FAULTS = Faults(
    throttled=0.05, failed=0.01, reset=0.02, slow=0.02, slow_s=0.2, refused_records=0.05
)


def through(proxy: FaultyAws, address: KinesisAddress) -> KinesisLog:
    """Return a log whose every call goes through the proxy."""
    faulty = replace(address, endpoint=proxy.endpoint)
    access = AwsAccess(tries=2, read_timeout_ms=5_000)
    client = AwsClients(faulty.access(access)).client("kinesis")
    return KinesisLog(client, faulty, WallClock(), 30_000, READS_PER_SECOND)


def test_a_faulty_way_loses_nothing_and_turns_no_order() -> None:
    address = fresh_address()
    make_streams(address, shards=2, streams=("frames",))
    with FaultyAws(address.endpoint, FAULTS, seed=3) as proxy:
        log = through(proxy, address)
        wanted: defaultdict[str, list[bytes]] = defaultdict(list)
        for number in range(40):
            batch = []
            for key in (f"v{k}" for k in range(5)):
                value = f"{key}:{number}".encode()
                wanted[key].append(value)
                batch.append(("frames", key, value))
            log.append_bytes(batch)
        rows: list[Row] = []
        for _ in range(20):
            try:
                rows = list(log.scan("frames"))
                break
            except LogUnavailable:
                continue
        assert {"throttled", "reset", "slow", "records refused"} <= proxy.done.keys()
    assert by_key(rows) == wanted
    assert by_key(list(open_log(address).scan("frames"))) == wanted


def test_an_answer_that_is_lost_only_repeats() -> None:
    address = fresh_address()
    make_streams(address, shards=1, streams=("frames",))
    with FaultyAws(address.endpoint, Faults(lost=0.2), seed=1) as proxy:
        log = through(proxy, address)
        for number in range(20):
            log.append_bytes([("frames", "v", b"%d" % number)])
        assert proxy.done["lost"]
    values = by_key(list(open_log(address).scan("frames")))["v"]
    assert len(values) > 20
    assert list(dict.fromkeys(values)) == [b"%d" % number for number in range(20)]
