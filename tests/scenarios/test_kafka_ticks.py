"""`pho ticks`: time passes in every partition of a quiet log on Kafka, and then it rests."""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import worlds
from brokers import fresh_topics, new_broker, shared_broker
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import KafkaClient, Place, connect
from connectors.kafka_log import TICKED_STREAMS, KafkaLog
from connectors.kafka_topics import create_topics
from connectors.reading_back import is_tick, read_between
from engines import ticker as tickers
from engines.ticker import Ticker, longest_tail_ms
from pipelines.topology import TICK_INTERVAL_MS, tick_tail_ms
from schemas.operations import Tick
from serving.stopping import Stop
from waiting import wait_until

PARTITIONS = 2
TAIL_MS = 3_000
BUSY_MS = 2_000
QUIET = {"PYTHONWARNINGS": ""}
"""kafka-python reads its own files in a way that is deprecated."""


@pytest.fixture
def address() -> Iterator[KafkaAddress]:
    with fresh_topics(shared_broker().bootstrap, PARTITIONS) as address:
        yield address


@pytest.fixture
def client(address: KafkaAddress) -> Iterator[KafkaClient]:
    client = connect(address, client="confluent", delivery_timeout_ms=20_000)
    yield client
    client.close()


@pytest.fixture
def log(client: KafkaClient) -> KafkaLog:
    return KafkaLog(client)


@pytest.fixture
def start(address: KafkaAddress) -> Iterator[Callable[[], Ticker]]:
    """Return what starts a ticker in a thread of its own, with kafka-python as by default."""
    running: list[tuple[Stop, threading.Thread, KafkaClient]] = []

    def begin() -> Ticker:
        client = connect(address, delivery_timeout_ms=20_000)
        ticker = Ticker(client, lambda: TAIL_MS)
        stop = Stop()
        thread = threading.Thread(target=ticker.run, args=(stop, lambda _line: None))
        thread.start()
        running.append((stop, thread, client))
        return ticker

    yield begin
    for stop, thread, client in running:
        stop.set()
        thread.join()
        client.close()


def places(address: KafkaAddress) -> list[Place]:
    return [(address.topic(stream), n) for stream in TICKED_STREAMS for n in range(PARTITIONS)]


def log_times(client: KafkaClient, *, ticks: bool) -> dict[Place, list[int]]:
    """Return the log times of the Ticks of each partition, or of all else."""
    asked = places(client.address)
    found: dict[Place, list[int]] = defaultdict(list)
    for record in read_between(client, client.starts(asked), client.ends(asked)):
        if is_tick(record) == ticks:
            found[record.topic, record.partition].append(record.timestamp_ms)
    return found


def visit(log: KafkaLog, name: str = "a") -> None:
    log.append("frames", worlds.captured(name, "pre", 0, int(time.time() * 1_000), 0.1))


def test_quiet_partitions_get_ticks_at_once_and_until_the_tail_has_passed(
    client: KafkaClient, log: KafkaLog, start: Callable[[], Ticker]
) -> None:
    ticker = start()
    time.sleep(1.0)
    assert ticker.ticks == 0, "a log in which nothing ever happened needs no Ticks"
    visit(log)
    time.sleep((TAIL_MS + BUSY_MS) / 1_000)
    came_ms = max(t for times in log_times(client, ticks=False).values() for t in times)
    ticks = log_times(client, ticks=True)
    assert set(ticks) == set(places(client.address)), "some partition stood still"
    # Alone on the machine the first comes after 0.3 s; other tests run beside this one.
    waited_ms = {place: times[0] - came_ms for place, times in ticks.items()}
    assert min(waited_ms.values()) <= BUSY_MS, waited_ms
    for times in ticks.values():
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert statistics.median(gaps) <= 3 * TICK_INTERVAL_MS
        # The last Tick lies behind the tail: whatever was open has closed by it.
        assert TAIL_MS < times[-1] - came_ms <= TAIL_MS + BUSY_MS
    at_rest = ticker.ticks
    time.sleep(1.0)
    assert ticker.ticks == at_rest


def test_it_wakes_again_for_the_next_visitor(
    client: KafkaClient, log: KafkaLog, start: Callable[[], Ticker]
) -> None:
    ticker = start()
    visit(log)
    wait_until(lambda: ticker.ticks > 0)
    time.sleep((TAIL_MS + 1_500) / 1_000)
    at_rest = ticker.ticks
    visit(log, "b")
    wait_until(lambda: ticker.ticks - at_rest >= len(places(client.address)) - 1)


def test_two_tickers_write_no_more_than_one_and_both_come_to_rest(
    client: KafkaClient, log: KafkaLog, start: Callable[[], Ticker]
) -> None:
    two = (start(), start())
    visit(log)
    wait_until(lambda: sum(t.ticks for t in two) > 0)
    time.sleep((TAIL_MS + 2_500) / 1_000)
    written = sum(ticker.ticks for ticker in two)
    most = len(places(client.address)) * (TAIL_MS / TICK_INTERVAL_MS + 6)
    assert written <= 1.6 * most
    time.sleep(2.0)
    assert sum(ticker.ticks for ticker in two) == written


def test_after_a_standstill_one_more_tick_closes_what_was_open(
    client: KafkaClient, log: KafkaLog, start: Callable[[], Ticker]
) -> None:
    visit(log)
    time.sleep((TAIL_MS + 500) / 1_000)  # nobody ticks meanwhile
    ticker = start()
    wait_until(lambda: ticker.ticks > 0)
    time.sleep(1.5)
    ticks = log_times(client, ticks=True)
    assert set(ticks) == set(places(client.address))
    assert max(len(times) for times in ticks.values()) <= 2
    assert ticker.ticks <= 2 * len(places(client.address))


def test_a_long_night_of_ticks_is_read_back_to_its_last_visitor(
    client: KafkaClient, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickers, "_READ_BACK", 4)
    visit(log)
    for number in range(30):
        log.append("ticks", Tick(worlds.START_MS + number, "test"))
    assert Ticker(client, lambda: 60_000).step(1.0) == len(places(client.address))
    # Whoever has no tail knows that the visitor is long gone.
    assert Ticker(client, lambda: 0).step(1.0) == 0


def test_the_tail_is_that_of_the_slowest_loop_the_log_ever_knew(log: KafkaLog) -> None:
    short = worlds.loop()
    rules = {"reward_window_ms": 20_000, "dedup_horizon_ms": 600_000}
    long = worlds.loop(rules=rules)
    assert longest_tail_ms(log, (short,)) == tick_tail_ms(short.rules)
    log.append_bytes([("loops", "k", b"none of ours")])
    log.append("loops", long)
    log.append("loops", short)
    assert longest_tail_ms(log, (short,)) == tick_tail_ms(long.rules)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_broker_that_is_away_is_waited_for_and_told(pho: Any, tmp_path: Path) -> None:
    broker = new_broker(tmp_path / "broker")
    address = KafkaAddress.parse(f"kafka://{broker.bootstrap}/away")
    with broker:
        create_topics(address, partitions=PARTITIONS)
    process = pho.start("ticks", "--log", address, "--data", tmp_path, settings=QUIET)
    wait_until(lambda: "waiting for it" in pho.output(process)[1], 120.0)
    with broker:
        wait_until(lambda: "ticks go to" in pho.output(process)[1], 120.0)
        client = connect(address, client="confluent")
        visit(KafkaLog(client))
        wait_until(lambda: sum(map(len, log_times(client, ticks=True).values())) > 40, 30.0)
        broker.kill()
        wait_until(lambda: pho.output(process)[1].count("waiting for it") == 2, 120.0)
        client.close()
        broker.start()
        client = connect(address, client="confluent")
        wait_until(lambda: "the broker is back" in pho.output(process)[1], 120.0)
        before = sum(map(len, log_times(client, ticks=True).values()))
        wait_until(lambda: sum(map(len, log_times(client, ticks=True).values())) > before + 40, 30)
        client.close()
        process.terminate()
        assert process.wait(30) == 0
    assert "Traceback" not in pho.output(process)[1]
