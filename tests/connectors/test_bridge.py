"""The bridge: every record once, in order, with its log time, however often it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import worlds
from brokers import fresh_topics
from connectors.archive import ArchiveReader
from connectors.archive_writer import Archiver
from connectors.bridge import POSITION, Bridge
from connectors.clocks import SetClock
from connectors.embedded_log import EmbeddedLog
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import Incoming, KafkaClient, Outgoing, Place, connect, partition_of
from connectors.kafka_log import TICKED_STREAMS, KafkaLog
from connectors.local_kafka import LocalKafka
from connectors.logs import Row
from connectors.reading_back import read_between
from schemas.errors import LogUnavailable, UsageError
from schemas.operations import Tick
from schemas.streams import STREAMS
from serving.ledger import read_ledger

PARTITIONS = 2
ALL = tuple(STREAMS)
_START = (sys.executable, "-c", "from serving.cli import main; main()")


@pytest.fixture
def address(broker: LocalKafka) -> Iterator[KafkaAddress]:
    with fresh_topics(broker.bootstrap, PARTITIONS, bridged=True) as address:
        yield address


@pytest.fixture
def client(address: KafkaAddress) -> Iterator[KafkaClient]:
    client = connect(address, client="confluent", delivery_timeout_ms=30_000)
    yield client
    client.close()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(tmp_path / "shop", SetClock(worlds.START_MS))
    yield log
    log.close()


def fill(log: EmbeddedLog, visits: int, name: str = "v") -> None:
    """Append some visits as a job would, with Ticks between them, and bytes that are no record."""
    clock = log.clock
    assert isinstance(clock, SetClock)
    for number in range(visits):
        visit = f"{name}{number}"
        decision = worlds.decided(visit, clock() + 1)
        log.append("frames", worlds.captured(visit, "pre", 0, clock(), 0.2))
        log.append("analyses", worlds.analyzed(visit, "pre", 0, clock(), 0.2))
        log.append("decisions", decision)
        log.append_bytes([("rewards", visit, b"none of ours")])
        log.append("outcomes", worlds.outcome(decision, 0.5, clock()))
        clock.set(clock() + 90)
        log.append("ticks", Tick(clock(), "embedded"))


def partitions(client: KafkaClient) -> dict[Place, list[Incoming]]:
    """Return every record of every topic, by partition."""
    topics = [client.address.topic(stream) for stream in STREAMS if stream != "ticks"]
    counts = client.partitions(topics)
    places = [(topic, number) for topic, count in counts.items() for number in range(count)]
    found: dict[Place, list[Incoming]] = {place: [] for place in places}
    for record in read_between(client, client.starts(places), client.ends(places)):
        found[record.topic, record.partition].append(record)
    return found


def wanted(
    rows: Iterable[Row], client: KafkaClient, streams: Iterable[str] = ALL
) -> dict[Place, list[tuple[bytes, int, bytes]]]:
    """Return what each partition should hold: value, time and place, worked out apart."""
    names = set(streams)
    counts = client.partitions([client.address.topic(s) for s in names if s != "ticks"])
    found = defaultdict(list)
    for row in rows:
        place = f"{row.stream}/{row.partition}/{row.position}".encode()
        entry = (row.value, row.log_time_ms, place)
        if row.stream == "ticks":
            for stream in names & set(TICKED_STREAMS):
                topic = client.address.topic(stream)
                for number in range(counts[topic]):
                    found[topic, number].append(entry)
        elif row.stream in names:
            topic = client.address.topic(row.stream)
            found[topic, partition_of(row.key.encode(), counts[topic])].append(entry)
    return found


def held(client: KafkaClient) -> dict[Place, list[tuple[bytes, int, bytes]]]:
    """Return what each partition holds: value, time and place; empty ones are left out."""
    return {
        place: [(r.value or b"", r.timestamp_ms, dict(r.headers)[POSITION]) for r in records]
        for place, records in partitions(client).items()
        if records
    }


def test_each_partition_holds_its_records_with_their_times_and_every_tick(
    source: EmbeddedLog, client: KafkaClient
) -> None:
    fill(source, 40)
    bridge = Bridge(client, ALL)
    bridge.copy(source.scan(*bridge.names))
    assert held(client) == wanted(source.scan(), client)
    assert bridge.copied == sum(len(records) for records in held(client).values())


def test_a_second_run_copies_only_what_is_new(source: EmbeddedLog, client: KafkaClient) -> None:
    for round_ in range(3):
        fill(source, 5, f"r{round_}.")
        bridge = Bridge(client, ALL)
        bridge.copy(source.scan(*bridge.names))
        bridge.refuse_other_source()
        assert held(client) == wanted(source.scan(), client)
    assert Bridge(client, ALL).copy(source.scan(*bridge.names)) is not None
    assert held(client) == wanted(source.scan(), client)


def test_some_streams_take_ticks_only_where_they_are(
    source: EmbeddedLog, client: KafkaClient
) -> None:
    fill(source, 10)
    streams = ("decisions", "outcomes", "greetings")
    bridge = Bridge(client, streams)
    bridge.copy(source.scan(*bridge.names))
    assert held(client) == wanted(source.scan(), client, streams)
    bridge = Bridge(client, ("greetings",))
    assert bridge.copy(source.scan(*bridge.names)) is None


def test_an_archive_is_copied_like_the_log_it_was_made_of(
    source: EmbeddedLog, client: KafkaClient, tmp_path: Path
) -> None:
    fill(source, 20)
    Archiver(source, tmp_path / "archive").run(source.clock())
    bridge = Bridge(client, ALL)
    bridge.copy(ArchiveReader(tmp_path / "archive").scan(*bridge.names))
    first = held(client)
    assert sum(map(len, first.values())) > 100
    # The log goes on where its archive stopped.
    bridge = Bridge(client, ALL)
    bridge.copy(source.scan(*bridge.names))
    bridge.refuse_other_source()
    assert held(client) == wanted(source.scan(), client)


def test_the_ledger_is_the_same_on_both_sides(source: EmbeddedLog, client: KafkaClient) -> None:
    fill(source, 25)
    bridge = Bridge(client, ALL)
    bridge.copy(source.scan(*bridge.names))
    log = KafkaLog(client)
    assert read_ledger(log) == read_ledger(source)
    assert read_ledger(log).rewarded == 25


def test_records_of_somebody_else_are_refused(
    source: EmbeddedLog, client: KafkaClient, address: KafkaAddress
) -> None:
    client.produce([Outgoing(address.topic("frames"), b"k", b"v", partition=1)])
    with pytest.raises(UsageError, match="no bridge wrote"):
        Bridge(client, ALL)


def test_another_source_is_refused_before_anything_of_it_is_written(
    source: EmbeddedLog, client: KafkaClient, tmp_path: Path
) -> None:
    fill(source, 30)
    bridge = Bridge(client, ("frames",))
    bridge.copy(source.scan(*bridge.names))
    before = held(client)
    other = EmbeddedLog(tmp_path / "other", SetClock(worlds.START_MS))
    fill(other, 3)
    bridge = Bridge(client, ("frames",))
    bridge.copy(other.scan(*bridge.names))
    with pytest.raises(UsageError, match="which the source lacks"):
        bridge.refuse_other_source()
    assert held(client) == before
    other.close()


def test_a_missing_topic_is_named_with_its_cure(broker: LocalKafka) -> None:
    address = KafkaAddress.parse(f"kafka://{broker.bootstrap}/nowhere")
    client = connect(address, client="confluent")
    with pytest.raises(LogUnavailable, match=r"nowhere\.frames.*pho topics create --bridged"):
        Bridge(client, ("frames",))
    client.close()


def test_a_second_writer_is_noticed(
    source: EmbeddedLog, client: KafkaClient, address: KafkaAddress
) -> None:
    fill(source, 3)
    bridge = Bridge(client, ("frames",))
    client.produce([Outgoing(address.topic("frames"), b"k", b"v", partition=0)])
    with pytest.raises(LogUnavailable, match="somebody else writes"):
        bridge.copy(source.scan(*bridge.names))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_any_moment_each_partition_still_holds_each_record_once(
    source: EmbeddedLog, client: KafkaClient, address: KafkaAddress, repository: Path
) -> None:
    frames = [("frames", f"v{n % 977}", b"%d" % n * 40) for n in range(40_000)]
    for begin in range(0, len(frames), 500):
        source.append_bytes(frames[begin : begin + 500])
        source.append("ticks", Tick(worlds.START_MS, "embedded"))
    line = ["bridge", "--from", source.folder, "--log", address, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    places = [(address.topic("frames"), number) for number in range(PARTITIONS)]
    killed = 0
    for number in range(6):
        before = sum(client.ends(places).values())
        process = subprocess.Popen(
            [*_START, *map(str, line)], env=environment, stdout=subprocess.DEVNULL
        )
        while process.poll() is None and sum(client.ends(places).values()) == before:
            time.sleep(0.005)
        time.sleep(0.023 * number)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    there = sum(client.ends(places).values())
    assert killed >= 2, f"only {killed} were killed while they ran"
    last = subprocess.run(
        [*_START, *map(str, line)], env=environment, stdout=subprocess.PIPE, timeout=120, check=True
    )
    assert b'"copied"' in last.stdout
    assert there > 0
    assert held(client) == wanted(source.scan(), client)
