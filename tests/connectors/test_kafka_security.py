"""TLS and passwords, really: a broker that asks for them, and both clients."""

from __future__ import annotations

import gc
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers import fresh_address, new_broker
from connectors.kafka_address import KafkaAddress, KafkaSecurity, Protocol
from connectors.kafka_clients import ClientName, connect
from connectors.kafka_log import KafkaLog
from connectors.kafka_topics import create_topics
from connectors.local_kafka import LocalKafka
from schemas.codec import decode
from schemas.errors import LogUnavailable
from worlds import START_MS, rewarded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

_JAAS = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an authority, the broker's certificate, a client's, and a stranger."""
    folder = tmp_path_factory.mktemp("papers")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj")
    for name in ("ca", "stranger"):
        openssl(*new, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    for name in ("broker", "client"):
        signed_by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
        openssl(*new, f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", *signed_by)
    return folder


@pytest.fixture(scope="module")
def guarded(papers: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """Return a broker with a door for each protocol; TLS asks for the client's certificate."""
    folder = tmp_path_factory.mktemp("guarded")
    key_store = folder / "broker.pem"
    key_store.write_text(
        (papers / "broker.key").read_text("ascii") + (papers / "broker.pem").read_text("ascii"),
        encoding="ascii",
    )
    users = f'{_JAAS} user_shop="right";'
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(key_store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(papers / "ca.pem"),
        "listener.name.tls.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": users,
        "listener.name.both.plain.sasl.jaas.config": users,
    }
    doors = {"TLS": "SSL", "LOGIN": "SASL_PLAINTEXT", "BOTH": "SASL_SSL"}
    broker = new_broker(folder, listeners=doors, properties=properties)
    broker.start()
    yield broker
    broker.stop()
    with warnings.catch_warnings():
        # kafka-python leaves the sockets of refused attempts to be collected.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def through(
    guarded: LocalKafka, door: str, security: KafkaSecurity, client: ClientName
) -> list[str]:
    """Make topics, write and read through one door; return what was read."""
    address: KafkaAddress = fresh_address(guarded.bootstrap_of(door))
    create_topics(address, security, partitions=1)
    log = KafkaLog(connect(address, security, client, delivery_timeout_ms=30_000))
    try:
        log.append("rewards", rewarded("v", 1, 0.5, START_MS))
        return [decode(row.value).reward_id for row in log.scan("rewards")]
    finally:
        log.close()


def with_certificate(papers: Path, name: str = "client", ca: str = "ca") -> KafkaSecurity:
    return KafkaSecurity(
        "SSL", "", "", "", papers / f"{ca}.pem", papers / f"{name}.pem", papers / f"{name}.key"
    )


def with_password(password: str, protocol: Protocol, ca: Path | None = None) -> KafkaSecurity:
    return KafkaSecurity(protocol, "PLAIN", "shop", password, ca)


def test_each_door_opens_to_who_may_enter(
    guarded: LocalKafka, papers: Path, client_name: ClientName
) -> None:
    for door, security in (
        ("TLS", with_certificate(papers)),
        ("LOGIN", with_password("right", "SASL_PLAINTEXT")),
        ("BOTH", with_password("right", "SASL_SSL", papers / "ca.pem")),
    ):
        assert through(guarded, door, security, client_name) == ["v.reward.1"], door


def test_who_may_not_enter_is_told_and_no_password_is_shown(
    guarded: LocalKafka, papers: Path, client_name: ClientName
) -> None:
    for door, security in (
        ("LOGIN", with_password("wrong7", "SASL_PLAINTEXT")),
        ("TLS", with_certificate(papers, "stranger")),
        ("TLS", with_certificate(papers, ca="stranger")),
    ):
        address = fresh_address(guarded.bootstrap_of(door))
        client = connect(address, security, client_name, delivery_timeout_ms=4_000)
        with pytest.raises(LogUnavailable) as told:
            client.partitions([address.topic("rewards")], 4_000)
        assert "wrong7" not in str(told.value)
        assert told.value.cure
        client.close()
