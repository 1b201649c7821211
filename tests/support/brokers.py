"""One real Kafka broker for a whole test run, and topics of its own for each test."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from kafka import KafkaAdminClient

from connectors.jars import fetch_jars
from connectors.java import fetch_java
from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import ClientName, connect
from connectors.kafka_log import TOPIC_STREAMS, KafkaLog
from connectors.kafka_topics import create_topics
from connectors.local_kafka import LocalKafka

CLIENTS: tuple[ClientName, ...] = ("kafka-python", "confluent")
DELIVERY_TIMEOUT_MS = 60_000


def new_broker(
    folder: Path,
    listeners: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
) -> LocalKafka:
    """Return a broker that does not run yet."""
    jars = fetch_jars("kafka_broker")
    return LocalKafka(folder, fetch_java(), jars, listeners=listeners, properties=properties)


@cache
def shared_broker() -> LocalKafka:
    """Return the one broker of this run; it ends with the process."""
    # Not in a folder of pytest's: the broker ends after all fixtures, and its folder after it.
    folder = Path(tempfile.mkdtemp(prefix="pho-kafka-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    broker = new_broker(folder)
    broker.start()
    return broker


def fresh_address(bootstrap: str) -> KafkaAddress:
    """Return an address whose topics nobody else has."""
    return KafkaAddress.parse(f"kafka://{bootstrap}/t{uuid.uuid4().hex[:8]}")


@contextmanager
def fresh_topics(
    bootstrap: str, partitions: int = 2, *, bridged: bool = False
) -> Iterator[KafkaAddress]:
    """Make all topics under a name of their own, and delete them at the end."""
    address = fresh_address(bootstrap)
    create_topics(address, partitions=partitions, bridged=bridged)
    yield address
    drop_topics(address)


def drop_topics(address: KafkaAddress) -> None:
    """Delete our topics that are there."""
    admin = KafkaAdminClient(bootstrap_servers=list(address.servers))
    there = set(admin.list_topics())
    admin.delete_topics([t for t in map(address.topic, TOPIC_STREAMS) if t in there])
    admin.close()


@contextmanager
def open_log(
    address: KafkaAddress,
    client: ClientName = "confluent",
    delivery_timeout_ms: int = DELIVERY_TIMEOUT_MS,
) -> Iterator[KafkaLog]:
    """Return a log on a cluster, closed at the end."""
    log = KafkaLog(connect(address, client=client, delivery_timeout_ms=delivery_timeout_ms))
    try:
        yield log
    finally:
        log.close()
