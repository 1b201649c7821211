"""Bridges to and from Kinesis: each record once, in order, with its log time, killed or not."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import worlds
from brokers import drop_topics, fresh_topics
from brokers import fresh_address as fresh_kafka_address
from brokers import open_log as open_kafka_log
from connectors.bridge import POSITION, Bridge
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import Incoming, KafkaClient, connect
from connectors.kafka_log import TICKED_STREAMS
from connectors.kafka_topics import create_topics
from connectors.kinesis_bridge import KinesisBridge
from connectors.kinesis_intake import INTAKE_STREAMS
from connectors.kinesis_rows import KinesisRows
from connectors.local_kafka import LocalKafka
from connectors.logs import Row
from connectors.reading_back import read_between
from engines.ticker import Ticker
from kinesis_servers import (
    READS_PER_SECOND,
    client_of,
    fresh_address,
    make_streams,
    open_log,
    split,
)
from schemas.codec import decode
from schemas.errors import UsageError
from schemas.operations import Tick
from schemas.streams import STREAMS

COPIED = ("frames", "visits", "outcomes")
TAIL_MS = 60_000


@pytest.fixture
def source(tmp_path: Path) -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(tmp_path / "shop", SetClock(worlds.START_MS))
    yield log
    log.close()


def fill(log: EmbeddedLog, visits: int, name: str = "v") -> None:
    """Append some visits, with Ticks between them, and bytes that are no record."""
    clock = log.clock
    assert isinstance(clock, SetClock)
    for number in range(visits):
        visit = f"{name}{number}"
        log.append("frames", worlds.captured(visit, "pre", 0, clock(), 0.2))
        log.append_bytes([("visits", visit, b"none of ours")])
        log.append("outcomes", worlds.outcome(worlds.decided(visit, clock() + 1), 0.5, clock()))
        clock.set(clock() + 90)
        log.append("ticks", Tick(clock(), "embedded"))


class Stopped(Exception):
    """The bridge was killed here."""


def until_killed(rows: Iterator[Row], count: int) -> Iterator[Row]:
    for number, row in enumerate(rows):
        if number == count:
            raise Stopped
        yield row


def to_kinesis(address: object, rows: Iterator[Row]) -> int:
    bridge = KinesisBridge(
        client_of(address),  # type: ignore[arg-type]
        address,  # type: ignore[arg-type]
        COPIED,
        reads_per_second=READS_PER_SECOND,
    )
    bridge.copy(rows)
    bridge.refuse_other_source()
    return bridge.copied


def told(rows: Iterator[Row] | list[Row]) -> Counter[tuple[str, str, int, bytes]]:
    return Counter((r.stream, r.key, r.log_time_ms, r.value) for r in rows if r.stream != "ticks")


def test_a_folder_goes_to_kinesis_once_however_often_it_is_killed(
    source: EmbeddedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kinesis_bridge.BATCH_RECORDS", 4)
    address = fresh_address()
    make_streams(address, shards=2, streams=COPIED)
    fill(source, 8)
    for killed_after in (3, 9, 14):
        with pytest.raises(Stopped):
            to_kinesis(address, until_killed(source.scan(*COPIED), killed_after))
    split(address, "outcomes")
    to_kinesis(address, source.scan(*COPIED))
    fill(source, 2, "w")
    assert to_kinesis(address, source.scan(*COPIED)) == 6
    assert to_kinesis(address, source.scan(*COPIED)) == 0
    copies = list(open_log(address).scan(*COPIED))
    assert told(copies) == told(source.scan(*COPIED))
    order = [row.value for row in copies if row.stream == "outcomes"]
    assert order == [row.value for row in source.scan("outcomes")]


def test_streams_of_another_log_are_refused(source: EmbeddedLog, tmp_path: Path) -> None:
    address = fresh_address()
    make_streams(address, shards=1, streams=COPIED)
    fill(source, 3)
    to_kinesis(address, source.scan(*COPIED))
    other = EmbeddedLog(tmp_path / "other", SetClock(worlds.START_MS))
    with pytest.raises(UsageError, match="which the source lacks"):
        to_kinesis(address, other.scan(*COPIED))
    other.close()
    open_log(address).append_bytes([("frames", "k", b"by hand")])
    with pytest.raises(UsageError, match="no bridge wrote"):
        to_kinesis(address, source.scan(*COPIED))


@pytest.fixture
def topics(broker: LocalKafka) -> Iterator[KafkaAddress]:
    with fresh_topics(broker.bootstrap, 2, bridged=True) as address:
        yield address


@pytest.fixture
def client(topics: KafkaAddress) -> Iterator[KafkaClient]:
    client = connect(topics, client="confluent", delivery_timeout_ms=30_000)
    yield client
    client.close()


def records(client: KafkaClient) -> dict[tuple[str, int], list[Incoming]]:
    """Return what stands in each partition of the copied streams."""
    names = [client.address.topic(stream) for stream in COPIED]
    counts = client.partitions(names)
    places = [(topic, number) for topic, count in counts.items() for number in range(count)]
    found = defaultdict(list)
    for record in read_between(client, client.starts(places), client.ends(places)):
        found[record.topic, record.partition].append(record)
    return dict(found)


def test_kinesis_goes_to_kafka_once_in_order_with_its_times(client: KafkaClient) -> None:
    address = fresh_address()
    make_streams(address, shards=2, streams=COPIED)
    log = open_log(address)
    chance = random.Random(1)  # noqa: S311

    def write(first: int, count: int) -> None:
        for number in range(first, first + count):
            batch = [
                (s, f"v{chance.randrange(6)}", b"%d/%d" % (number, n))
                for n in range(3)
                for s in COPIED
            ]
            log.append_bytes(batch)

    def copy(count: int | None = None) -> tuple[Bridge, KinesisRows]:
        rows = KinesisRows(client_of(address), address, READS_PER_SECOND)
        bridge = Bridge(client, COPIED, source_forgets=True)
        given = rows.scan(*bridge.names)
        try:
            bridge.copy(given if count is None else until_killed(given, count))
        except Stopped:
            pass
        return bridge, rows

    write(0, 8)
    for killed_after in (5, 30):
        _, rows = copy(killed_after)
        rows.close()
    split(address, "frames")
    write(8, 4)
    bridge, rows = copy()
    frontier_ms = rows.frontier_ms
    bridge.tick(frontier_ms - 1 + 1_000, TAIL_MS)  # as if a second had passed
    write(12, 2)
    for _ in range(40):
        bridge.copy(rows.more())
    rows.close()
    again, rows = copy()
    rows.close()
    assert again.copied == 0, "a bridge that starts finds all of it there"

    there = list(log.scan(*COPIED))
    assert len(there) == 14 * 9
    found = records(client)
    copied = [r for part in found.values() for r in part if r.key != b"bridge"]
    headers = Counter(dict(r.headers)[POSITION] for r in copied)
    assert headers == Counter(f"{r.stream}/{r.partition}/{r.position}".encode() for r in there)
    by_key: defaultdict[tuple[str, bytes], list[bytes]] = defaultdict(list)
    for (topic, _), part in found.items():
        times = [record.timestamp_ms for record in part]
        assert times == sorted(times)
        ticks = [r for r in part if r.key == b"bridge"]
        assert all(isinstance(decode(tick.value or b""), Tick) for tick in ticks)
        assert len(ticks) == 1
        for record in part:
            if record.key != b"bridge":
                by_key[topic, record.key or b""].append(record.value or b"")
    wanted: defaultdict[tuple[str, bytes], list[bytes]] = defaultdict(list)
    times_there = {f"{r.stream}/{r.partition}/{r.position}".encode(): r.log_time_ms for r in there}
    for row in there:
        wanted[client.address.topic(row.stream), row.key.encode()].append(row.value)
    assert by_key == wanted
    early = [r for r in copied if r.timestamp_ms < frontier_ms]
    assert len(early) == 12 * 9
    assert all(r.timestamp_ms == times_there[dict(r.headers)[POSITION]] for r in early)


def test_kafka_goes_to_kinesis_and_keeps_its_times(
    topics: KafkaAddress, source: EmbeddedLog
) -> None:
    fill(source, 6)
    with open_kafka_log(topics) as kafka:
        kafka.append_at(source.scan(*COPIED))
        address = fresh_address()
        make_streams(address, shards=2, streams=COPIED)
        assert to_kinesis(address, kafka.scan(*COPIED)) == 18
        assert to_kinesis(address, kafka.scan(*COPIED)) == 0
        copies = list(open_log(address).scan(*COPIED))
    assert told(copies) == told(source.scan(*COPIED))
    assert {row.stream for row in copies} == set(COPIED) <= set(STREAMS)


def test_in_front_of_flink_the_bridge_keeps_its_topics_time_and_a_ticker_the_others(
    broker: LocalKafka,
) -> None:
    address = fresh_kafka_address(broker.bootstrap)
    written = [stream for stream in STREAMS if stream not in INTAKE_STREAMS]
    bridged = create_topics(address, partitions=1, bridged=True, streams=INTAKE_STREAMS)
    plain = create_topics(address, partitions=1, streams=written)
    assert set(bridged.created) == set(map(address.topic, INTAKE_STREAMS))
    assert set(bridged.created).isdisjoint(plain.created)
    assert len(bridged.created) + len(plain.created) == len(STREAMS) - 1
    assert create_topics(address, partitions=1, streams=written).findings == []

    kinesis = fresh_address()
    make_streams(kinesis, shards=1, streams=INTAKE_STREAMS)
    frame = worlds.captured("v1", "pre", 0, worlds.START_MS, 0.2)
    open_log(kinesis).append("frames", frame)
    with open_kafka_log(address) as kafka:
        client = connect(address, client="confluent", delivery_timeout_ms=30_000)
        rows = KinesisRows(client_of(kinesis), kinesis, READS_PER_SECOND)
        bridge = Bridge(client, INTAKE_STREAMS, source_forgets=True)
        bridge.copy(rows.scan(*bridge.names))
        bridge.tick(rows.frontier_ms + 1_000, TAIL_MS)
        rows.close()
        kafka.append("analyses", worlds.analyzed("v1", "pre", 0, worlds.START_MS, 0.2))
        ticker = Ticker(client, lambda: TAIL_MS, streams=written)
        for second in range(3):
            ticker.step(100.0 + second)
        client.close()
        newest = kafka.newest(*TICKED_STREAMS)
    drop_topics(address)
    assert ticker.ticks
    for (stream, _), row in newest.items():
        assert row is not None, f"{stream} stands still"
        assert row.stream == "ticks"
        assert (row.key == "bridge") == (stream in INTAKE_STREAMS)
