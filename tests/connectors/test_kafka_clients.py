"""The contract of a Kafka client, over both clients, against a real broker."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer

from brokers import CLIENTS, fresh_topics
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import (
    MAX_RECORD_BYTES,
    ClientName,
    Incoming,
    KafkaClient,
    Outgoing,
    Place,
    connect,
    partition_of,
)
from connectors.local_kafka import LocalKafka
from schemas.errors import LogUnavailable, UsageError


@pytest.fixture
def address(broker: LocalKafka) -> Iterator[KafkaAddress]:
    with fresh_topics(broker.bootstrap, partitions=3) as address:
        yield address


@pytest.fixture
def topic(address: KafkaAddress) -> str:
    return address.topic("frames")


@pytest.fixture
def client(address: KafkaAddress, client_name: ClientName) -> Iterator[KafkaClient]:
    client = connect(address, client=client_name, delivery_timeout_ms=20_000)
    yield client
    client.close()


def read(client: KafkaClient, begin: dict[Place, int], count: int) -> list[Incoming]:
    """Read until so many came, or ten seconds passed."""
    reader = client.reader(begin)
    found: list[Incoming] = []
    until_s = time.monotonic() + 10
    while len(found) < count and time.monotonic() < until_s:
        found += reader.poll(0.2)
    reader.close()
    return found


def test_records_come_back_whole_and_in_order(client: KafkaClient, topic: str) -> None:
    sent = [
        Outgoing(topic, f"k{n % 5}".encode(), bytes([n]) * 9, headers=(("h", b"\x00\xff"),))
        for n in range(100)
    ]
    places = client.produce(sent)
    found = read(client, {(topic, number): 0 for number in range(3)}, 100)
    by_place = {(one.partition, one.offset): one for one in found}
    assert len(by_place) == 100
    for place, one in zip(places, sent, strict=True):
        came = by_place[place]
        assert (came.key, came.value, came.headers) == (one.key, one.value, one.headers)
        assert abs(came.timestamp_ms / 1000 - time.time()) < 60
    for number in range(3):
        offsets = [one.offset for one in found if one.partition == number]
        assert offsets == sorted(offsets)
        sent_there = [s.value for s, p in zip(sent, places, strict=True) if p[0] == number]
        assert [one.value for one in found if one.partition == number] == sent_there


def test_nothing_to_produce_is_no_error(client: KafkaClient) -> None:
    assert client.produce([]) == []


def test_a_named_partition_is_used(client: KafkaClient, topic: str) -> None:
    places = client.produce([Outgoing(topic, b"same", b"v", None, n) for n in (2, 0, 1)])
    assert [number for number, _ in places] == [2, 0, 1]


def test_an_empty_value_and_a_tombstone_are_told_apart(
    client: KafkaClient, topic: str, address: KafkaAddress
) -> None:
    producer = KafkaProducer(bootstrap_servers=list(address.servers))
    producer.send(topic, None, b"k", partition=0).get(10)
    producer.close()
    client.produce([Outgoing(topic, b"", b"", None, 0)])
    found = read(client, {(topic, 0): 0}, 2)
    assert [(one.key, one.value) for one in found] == [(b"k", None), (b"", b"")]


def test_a_key_is_in_the_same_partition_whoever_writes_it(
    address: KafkaAddress, topic: str
) -> None:
    keys = [b"", *(f"visit-{n}-ä".encode()[: n % 23 + 1] + b"%d" % n for n in range(1, 1000))]
    wanted = [partition_of(key, 3) for key in keys]
    assert {wanted.count(n) > 250 for n in range(3)} == {True}
    for name in CLIENTS:
        client = connect(address, client=name)
        places = client.produce([Outgoing(topic, key, b"v") for key in keys])
        client.close()
        assert [number for number, _ in places] == wanted, name


def test_the_partition_of_a_key_is_that_of_the_java_client() -> None:
    # From the tests of Kafka's own Utils.murmur2, as unsigned numbers.
    for key, hashed in {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }.items():
        assert partition_of(key, 2**31) == hashed & 0x7FFFFFFF


def test_starts_and_ends_are_those_of_the_partitions(client: KafkaClient, topic: str) -> None:
    places = [(topic, number) for number in range(3)]
    assert client.ends(places) == dict.fromkeys(places, 0)
    client.produce([Outgoing(topic, b"k", b"v", None, 1) for _ in range(4)])
    assert client.ends(places) == {places[0]: 0, places[1]: 4, places[2]: 0}
    assert client.starts(places) == dict.fromkeys(places, 0)
    assert client.ends([]) == {}


def test_partitions_are_counted_and_missing_topics_left_out(
    client: KafkaClient, topic: str
) -> None:
    assert client.partitions([topic, "nowhere"]) == {topic: 3}
    # Asking for it did not make it.
    assert client.partitions(["nowhere"]) == {}


def test_a_reader_starts_where_it_is_told_and_knows_where_it_is(
    client: KafkaClient, topic: str
) -> None:
    client.produce([Outgoing(topic, b"k", bytes([n]), None, 0) for n in range(10)])
    reader = client.reader({(topic, 0): 7, (topic, 1): 0})
    assert reader.position((topic, 0)) == 7
    found: list[Incoming] = []
    until_s = time.monotonic() + 10
    while len(found) < 3 and time.monotonic() < until_s:
        found += reader.poll(0.2)
    assert [one.offset for one in found] == [7, 8, 9]
    assert reader.position((topic, 0)) == 10
    reader.pause([(topic, 0)])
    client.produce([Outgoing(topic, b"k", b"x", None, 0), Outgoing(topic, b"k", b"y", None, 1)])
    found = [one for _ in range(10) for one in reader.poll(0.1)]
    assert [one.value for one in found] == [b"y"]
    reader.resume([(topic, 0)])
    found = [one for _ in range(20) for one in reader.poll(0.1)]
    assert [one.value for one in found] == [b"x"]
    reader.close()


def test_what_is_not_committed_is_not_read_and_gaps_are_passed(
    client: KafkaClient, topic: str, address: KafkaAddress
) -> None:
    writer = KafkaProducer(bootstrap_servers=list(address.servers), transactional_id=topic)
    writer.init_transactions()
    for commit, value in ((True, b"a"), (False, b"b"), (True, b"c")):
        writer.begin_transaction()
        writer.send(topic, value, b"k", partition=0).get(10)
        writer.commit_transaction() if commit else writer.abort_transaction()
    end = client.ends([(topic, 0)])[topic, 0]
    assert end == 6
    reader = client.reader({(topic, 0): 0})
    found: list[Incoming] = []
    until_s = time.monotonic() + 10
    while reader.position((topic, 0)) < end and time.monotonic() < until_s:
        found += reader.poll(0.2)
    reader.close()
    assert [(one.offset, one.value) for one in found] == [(0, b"a"), (4, b"c")]
    writer.begin_transaction()
    writer.send(topic, b"open", b"k", partition=0).get(10)
    assert client.ends([(topic, 0)])[topic, 0] == 6
    writer.abort_transaction()
    writer.close()


def test_offsets_of_a_group_are_kept(client: KafkaClient, topic: str) -> None:
    group = f"pho.{topic}"
    assert client.committed(group) == {}
    client.commit(group, {(topic, 0): 3, (topic, 2): 0})
    client.commit(group, {(topic, 0): 4})
    assert client.committed(group) == {(topic, 0): 4, (topic, 2): 0}


def test_a_record_larger_than_the_topic_takes_is_refused_and_the_next_goes_on(
    client: KafkaClient, topic: str
) -> None:
    with pytest.raises(UsageError, match="too large"):
        client.produce([Outgoing(topic, b"k", bytes(MAX_RECORD_BYTES + 1))])
    client.produce([Outgoing(topic, b"k", bytes(MAX_RECORD_BYTES - 200), None, 0)])
    found = read(client, {(topic, 0): 0}, 1)
    assert [len(one.value or b"") for one in found] == [MAX_RECORD_BYTES - 200]


def test_a_cluster_that_is_away_is_named_with_what_to_do(client_name: ClientName) -> None:
    # Port 9 (discard) is listened to by nobody here.
    away = KafkaAddress.parse("kafka://127.0.0.1:9/shop")
    client = connect(away, client=client_name, delivery_timeout_ms=2_000)
    for attempt in (
        lambda: client.partitions(["shop.frames"], 1_000),
        lambda: client.produce([Outgoing("shop.frames", b"k", b"v")]),
    ):
        began_s = time.monotonic()
        with pytest.raises(LogUnavailable, match=r"kafka://127\.0\.0\.1:9/shop") as told:
            attempt()
        assert told.value.cure
        assert time.monotonic() - began_s < 20
    client.close()
