"""The log on Kafka: the `Log` protocol over both clients, against a real broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from brokers import fresh_address, fresh_topics, open_log
from connectors import kafka_log, kafka_reading
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import ClientName, KafkaReader, Outgoing, Place, partition_of
from connectors.kafka_log import JOINED_STREAMS, TICKED_STREAMS, TOPIC_STREAMS, KafkaLog
from connectors.local_kafka import LocalKafka
from connectors.logs import Log, Row
from pipelines.operators import Asynchronous, Keyed
from pipelines.topology import greeting_loop
from schemas.codec import decode, encode
from schemas.errors import LogUnavailable, UnknownSchema, UsageError
from schemas.operations import Tick
from worlds import START_MS, loop, rewarded, shown

T = START_MS


@pytest.fixture
def address(broker: LocalKafka) -> Iterator[KafkaAddress]:
    with fresh_topics(broker.bootstrap) as address:
        yield address


@pytest.fixture
def log(address: KafkaAddress, client_name: ClientName) -> Iterator[KafkaLog]:
    with open_log(address, client_name) as log:
        yield log


@pytest.fixture
def bridged(broker: LocalKafka, client_name: ClientName) -> Iterator[KafkaLog]:
    """Return a log whose writer says the log time."""
    with fresh_topics(broker.bootstrap, bridged=True) as address:
        with open_log(address, client_name) as log:
            yield log


def reward(number: int, visit: str = "v") -> bytes:
    return encode(rewarded(visit, number, 0.5, T))


def row(stream: str, key: str, log_time_ms: int, value: bytes) -> Row:
    return Row(0, stream, key, log_time_ms, value)


def test_it_is_a_log(log: KafkaLog) -> None:
    as_log: Log = log
    assert as_log.name.startswith("kafka://127.0.0.1:")
    assert abs(as_log.clock() / 1000 - time.time()) < 60


def test_records_come_back_with_the_brokers_time(log: KafkaLog) -> None:
    values = [rewarded(f"v{n % 3}", n, n / 10, T) for n in range(9)]
    began_ms = time.time() * 1000
    for value in values:
        log.append("rewards", value)
    rows = list(log.scan("rewards"))
    # Two partitions have no order within a millisecond, in which a quick broker takes two records.
    in_order = sorted(rows, key=lambda row: decode(row.value).reward_id.rpartition(".")[2])
    assert [decode(row.value) for row in in_order] == values
    assert [row.key for row in in_order] == [f"v{n % 3}" for n in range(9)]
    assert began_ms - 60_000 < rows[0].log_time_ms <= rows[-1].log_time_ms < began_ms + 60_000
    assert {row.partition for row in rows} == {partition_of(f"v{n}".encode(), 2) for n in range(3)}
    assert [decode(row.value) for row in log.scan("rewards", key="v1")] == values[1::3]


def test_what_was_appended_together_keeps_its_order_in_each_partition(log: KafkaLog) -> None:
    log.append_all([("rewards", rewarded(f"v{n % 7}", n, 0.5, T)) for n in range(500)])
    for visit in range(7):
        came = [decode(row.value).reward_id for row in log.scan("rewards", key=f"v{visit}")]
        assert came == [f"v{visit}.reward.{n}" for n in range(visit, 500, 7)]


def test_a_wrong_stream_or_record_is_refused(log: KafkaLog) -> None:
    for attempt in (
        lambda: log.append("nowhere", loop()),
        lambda: log.append("rewards", loop()),
        lambda: list(log.scan("nowhere")),
        lambda: log.tail("nowhere"),
        lambda: log.last("nowhere", 1),
    ):
        with pytest.raises(UsageError):
            attempt()


def test_a_scan_merges_by_log_time_then_by_stream_then_by_partition(bridged: KafkaLog) -> None:
    keys = {partition_of(f"v{n}".encode(), 2): f"v{n}" for n in range(9)}
    rows = [
        row("rewards", keys[1], T + 5, reward(1)),
        row("rewards", keys[0], T + 5, reward(2)),
        row("rewards", keys[0], T + 7, reward(3)),
        row("impressions", keys[1], T + 5, encode(shown("v", "a0", T))),
        row("impressions", keys[0], T + 6, encode(shown("v", "a1", T))),
    ]
    bridged.append_at(rows)
    found = [
        (r.log_time_ms - T, r.stream, r.partition) for r in bridged.scan("rewards", "impressions")
    ]
    assert found == [
        (5, "rewards", 0),
        (5, "rewards", 1),
        (5, "impressions", 1),
        (6, "impressions", 0),
        (7, "rewards", 0),
    ]
    found = [
        (r.log_time_ms - T, r.stream, r.partition) for r in bridged.scan("impressions", "rewards")
    ]
    assert found[:3] == [(5, "impressions", 1), (5, "rewards", 0), (5, "rewards", 1)]


def test_log_time_never_goes_back_within_a_partition(bridged: KafkaLog) -> None:
    times = [3, 9, 4, 9, 12, 1]
    tail = bridged.tail("rewards")
    bridged.append_at([row("rewards", "v", T + at, reward(n)) for n, at in enumerate(times)])
    found = list(bridged.scan("rewards"))
    assert [r.log_time_ms - T for r in found] == [3, 9, 9, 9, 12, 12]
    assert [r.position for r in found] == list(range(6))
    assert [r.log_time_ms - T for r in bridged.last("rewards", 2)] == [12, 12]
    came: list[Row] = []
    while len(came) < 6:
        came += tail.poll(5.0)
    assert [r.log_time_ms - T for r in came] == [3, 9, 9, 9, 12, 12]
    tail.close()
    # A tail begun now knows how late it is already.
    tail = bridged.tail("rewards")
    bridged.append_at([row("rewards", "v", T + 2, reward(9))])
    assert [r.log_time_ms - T for r in tail.poll(5.0)] == [12]
    tail.close()


def test_ticks_stand_in_every_partition_and_come_only_where_asked_for(log: KafkaLog) -> None:
    log.append("rewards", rewarded("v", 1, 0.5, T))
    log.append("ticks", Tick(T, "x"))
    partitions = 2 * len(TICKED_STREAMS)
    assert len(list(log.scan("ticks"))) == partitions
    assert [r.stream for r in log.scan("rewards")] == ["rewards"]
    assert sorted(r.stream for r in log.scan("rewards", "ticks")) == ["rewards", "ticks", "ticks"]
    assert len(list(log.scan())) == 1 + partitions
    assert [r.stream for r in log.last("rewards", 5)] == ["rewards"]
    places = {(r.stream, r.partition, r.position) for r in log.scan()}
    assert len(places) == 1 + partitions
    assert log.counts()["rewards"] == 3
    assert list(log.scan("greetings")) == []
    tail = log.tail("rewards")
    log.append("ticks", Tick(T, "x"))
    log.append("rewards", rewarded("v", 2, 0.5, T))
    assert [r.stream for r in tail.poll(5.0)] == ["rewards"]
    assert tail.poll(0.1) == []
    tail.close()


def test_the_ticked_streams_are_those_the_operators_read() -> None:
    operators = greeting_loop().operators
    read = {o.input for o in operators if isinstance(o, Asynchronous)}
    read.update(*(o.inputs for o in operators if isinstance(o, Keyed)))
    assert set(TICKED_STREAMS) == read
    joined = next(o.inputs for o in operators if isinstance(o, Keyed) and o.name == "join")
    assert set(JOINED_STREAMS) == set(joined)
    assert len(TOPIC_STREAMS) == 16


def test_a_tick_can_be_put_where_nothing_moves(log: KafkaLog) -> None:
    log.append_ticks(Tick(T, "x"), [("visits", 1), ("frames", 0)])
    assert len(list(log.scan("ticks"))) == 2
    newest = log.newest("visits", "frames")
    assert {place for place, found in newest.items() if found} == {("visits", 1), ("frames", 0)}
    assert set(log.newest("visits", "frames", ticks=False).values()) == {None}


def test_the_newest_are_found_behind_a_night_of_ticks(log: KafkaLog) -> None:
    log.append_all([("rewards", rewarded(f"v{n}", n, 0.5, T)) for n in range(40)])
    wanted = [decode(r.value).reward_id for r in log.scan("rewards")]
    for _ in range(5):
        log.append_ticks(Tick(T, "x"), [("rewards", 0)] * 100)
    found = [decode(r.value).reward_id for r in log.last("rewards", 7)]
    assert found == wanted[-7:]
    assert [decode(r.value).reward_id for r in log.last("rewards", 99)] == wanted
    assert log.last("rewards", 0) == []
    assert log.last("visits", 3) == []
    newest = log.newest("rewards", ticks=False)["rewards", 0]
    assert newest is not None
    assert decode(newest.value).reward_id in wanted


def test_it_is_complete_through_the_slowest_partition(bridged: KafkaLog) -> None:
    assert bridged.complete_through_ms() == 0
    bridged.append_at([row("ticks", "x", T + 10, encode(Tick(T + 10, "x")))])
    assert bridged.complete_through_ms() == T + 10
    bridged.append_at([row("rewards", "v", T + 99, reward(1))])
    assert bridged.complete_through_ms() == T + 10


def test_a_tail_of_one_key_gives_that_key_only(log: KafkaLog) -> None:
    log.append("rewards", rewarded("before", 1, 0.5, T))
    tail = log.tail("rewards", key="mine")
    assert tail.poll(0.0) == []
    log.append_all([("rewards", rewarded(visit, 1, 0.5, T)) for visit in ("a", "mine", "b")])
    assert [r.key for r in tail.poll(5.0)] == ["mine"]
    tail.close()


def test_a_tail_waits_no_longer_than_told(log: KafkaLog) -> None:
    tail = log.tail("rewards")
    began_s = time.monotonic()
    assert tail.poll(0.3) == []
    assert 0.25 < time.monotonic() - began_s < 3.0
    tail.close()


def test_a_bookmark_is_kept_for_each_place_ticks_apart(
    log: KafkaLog, address: KafkaAddress, client_name: ClientName
) -> None:
    assert log.bookmark("archive") == {}
    log.append("ticks", Tick(T, "x"))
    tick = next(log.scan("ticks"))
    places = {("rewards", 1): 7, ("outcomes", 0): 0, (tick.stream, tick.partition): 1}
    log.set_bookmark("archive", places)
    log.set_bookmark("archive", {("rewards", 1): 8})
    with open_log(address, client_name) as again:
        assert again.bookmark("archive") == places | {("rewards", 1): 8}
        assert again.bookmark("another") == {}


def test_a_scan_goes_on_from_a_bookmark(log: KafkaLog) -> None:
    log.append_all([("rewards", rewarded(f"v{n}", n, 0.5, T)) for n in range(50)])
    rows = list(log.scan("rewards"))
    places: dict[tuple[str, int], int] = {}
    for one in rows[:30]:
        places[one.stream, one.partition] = one.position + 1
    assert list(log.scan_from(places, "rewards")) == rows[30:]


def test_poison_comes_back_as_it_is(log: KafkaLog) -> None:
    poison = [b"", b"\x00", b"\xc3\x01", b"\x00\x00\x00\x00\x07foreign", bytes(range(256))]
    log.append_bytes([("rewards", "k", value) for value in poison])
    found = list(log.scan("rewards"))
    assert [r.value for r in found] == poison
    assert [r.position for r in found] == list(range(5))
    with pytest.raises(UnknownSchema):
        decode(found[-1].value)


def test_a_key_that_is_no_text_is_shown_and_stops_nobody(log: KafkaLog) -> None:
    topic = log.address.topic("rewards")
    log._client.produce([Outgoing(topic, b"\xff\xfe", reward(1)), Outgoing(topic, b"k", reward(2))])
    assert sorted(r.key for r in log.scan("rewards")) == ["k", "��"]


def test_a_merge_holds_back_the_partition_that_is_ahead(
    bridged: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_reading, "_AHEAD", 50)
    keys = {partition_of(f"v{n}".encode(), 2): f"v{n}" for n in range(9)}
    # All of one partition comes before the first of the other.
    early = [row("rewards", keys[0], T + n, reward(n)) for n in range(8_000)]
    late = [row("rewards", keys[1], T + 9_000 + n, reward(n)) for n in range(8_000)]
    with open_log(bridged.address) as writer:
        writer.append_at(early + late)
    held: list[int] = []
    hold = kafka_reading._hold

    def watched(reader: KafkaReader, parts: dict[Place, kafka_reading._Partition]) -> None:
        hold(reader, parts)
        held.extend(len(part.rows) for part in parts.values())

    monkeypatch.setattr(kafka_reading, "_hold", watched)
    times = [r.log_time_ms - T for r in bridged.scan("rewards")]
    assert times == [*range(8_000), *range(9_000, 17_000)]
    # What one reading brings (5,000), and not the whole of the partition that is ahead.
    assert max(held) < 6_000


def test_what_comes_during_a_scan_is_not_in_it(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append_all([("rewards", rewarded(f"v{n}", n, 0.5, T)) for n in range(10)])
    spans = log._spans

    def and_more_comes(streams: tuple[str, ...]) -> dict[Place, kafka_reading.Span]:
        found = spans(streams)
        log.append_all([("rewards", rewarded(f"w{n}", n, 0.5, T)) for n in range(10)])
        return found

    monkeypatch.setattr(log, "_spans", and_more_comes)
    assert sorted(row.key for row in log.scan("rewards")) == [f"v{n}" for n in range(10)]


def test_a_missing_topic_names_the_command_that_makes_it(
    broker: LocalKafka, client_name: ClientName
) -> None:
    address = fresh_address(broker.bootstrap)
    with open_log(address, client_name) as log:
        for attempt in (
            lambda: log.append("rewards", rewarded("v", 1, 0.5, T)),
            lambda: list(log.scan("rewards")),
            log.complete_through_ms,
        ):
            began_s = time.monotonic()
            with pytest.raises(LogUnavailable) as told:
                attempt()
            assert f"pho topics create --log {address}" in told.value.cure
            assert time.monotonic() - began_s < 10


def test_it_waits_for_a_broker_and_says_so(client_name: ClientName, broker: LocalKafka) -> None:
    said: list[str] = []
    with open_log(KafkaAddress.parse(f"kafka://{broker.bootstrap}/x"), client_name) as log:
        log.wait_for_broker(5.0, said.append)
    assert said == []
    away = KafkaAddress.parse("kafka://127.0.0.1:9/shop")
    with open_log(away, client_name) as log:
        with pytest.raises(LogUnavailable, match=r"127\.0\.0\.1:9"):
            log.wait_for_broker(2.0, said.append)
    assert len(said) == 1
    assert "127.0.0.1:9" in said[0]


def test_several_threads_may_append(log: KafkaLog) -> None:
    def write(writer: int) -> None:
        for number in range(20):
            log.append("rewards", rewarded(f"w{writer}", number, 0.5, T))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in range(4):
        came = [decode(r.value).reward_id for r in log.scan("rewards", key=f"w{writer}")]
        assert came == [f"w{writer}.reward.{n}" for n in range(20)]


def test_the_number_of_a_ticks_partition_is_stable() -> None:
    # Bookmarks and archives hold it: a stream put before another one would change their meaning.
    assert kafka_log._tick_partition("frames", 3) == 1003
    assert kafka_log._tick_partition("outcomes", 0) == 8000
