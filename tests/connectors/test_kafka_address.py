"""Kafka addresses and what proves who one is: read whole, refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.kafka_address import KafkaAddress, KafkaSecurity
from schemas.errors import UsageError


@pytest.mark.parametrize(
    ("text", "servers", "prefix"),
    [
        ("kafka://host:9092/shop", ("host:9092",), "shop"),
        ("kafka://a:1,b:65535/shop.berlin", ("a:1", "b:65535"), "shop.berlin"),
        ("kafka://host", ("host:9092",), ""),
        ("kafka://10.0.0.7:19092/", ("10.0.0.7:19092",), ""),
        ("kafka://[::1]:9093/x", ("[::1]:9093",), "x"),
        ("kafka://[::1]", ("[::1]:9092",), ""),
        ("kafka://a.b-c.example, d:9/shop/", ("a.b-c.example:9092", "d:9"), "shop"),
    ],
)
def test_an_address_is_read(text: str, servers: tuple[str, ...], prefix: str) -> None:
    address = KafkaAddress.parse(text)
    assert address.servers == servers
    assert address.prefix == prefix
    assert KafkaAddress.parse(str(address)) == address


def test_topics_are_named_by_prefix_and_stream() -> None:
    assert KafkaAddress.parse("kafka://h/shop").topic("frames") == "shop.frames"
    assert KafkaAddress.parse("kafka://h").topic("frames") == "frames"


@pytest.mark.parametrize(
    "text",
    [
        "host:9092/shop",
        "kafka://",
        "kafka:///shop",
        "kafka://host:0/shop",
        "kafka://host:65536/shop",
        "kafka://host:/shop",
        "kafka://host:9x/shop",
        "kafka://host:٣/shop",
        "kafka://a,,b/shop",
        "kafka://::1/shop",
        "kafka://ho st/shop",
        "kafka://-h/shop",
        "kafka://host/shop/frames",
        "kafka://host/.",
        "kafka://host/a b",
        f"kafka://host/{'a' * 201}",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        KafkaAddress.parse(text)
    assert refused.value.cure


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as refused:
        KafkaAddress.parse("kafka://me:hunter2@host:9092/shop")
    assert "hunter2" not in str(refused.value)


def test_the_password_is_never_shown() -> None:
    security = KafkaSecurity("SASL_PLAINTEXT", "PLAIN", "me", "hunter2")
    assert "hunter2" not in repr(security)
    assert "hunter2" not in str(security)
    assert "hunter2" in security.for_kafka_python().values()
    assert "hunter2" in security.for_confluent().values()


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    there = tmp_path / "ca.pem"
    there.touch()
    attempts: tuple[Callable[[], KafkaSecurity], ...] = (
        lambda: KafkaSecurity("SASL_SSL"),
        lambda: KafkaSecurity("SASL_SSL", "PLAIN", "me"),
        lambda: KafkaSecurity("SSL", "PLAIN", "me", "x"),
        lambda: KafkaSecurity("PLAINTEXT", ca_file=there),
        lambda: KafkaSecurity("SSL", certificate_file=there),
        lambda: KafkaSecurity("SSL", ca_file=tmp_path / "missing.pem"),
    )
    for wrong in attempts:
        with pytest.raises(UsageError) as refused:
            wrong()
        assert refused.value.cure


def test_files_reach_both_clients_under_their_names(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("ca.pem", "certificate.pem", "key.pem")]
    for path in paths:
        path.touch()
    security = KafkaSecurity("SSL", "", "", "", *paths)
    assert security.for_kafka_python() == {
        "security_protocol": "SSL",
        "ssl_cafile": str(paths[0]),
        "ssl_certfile": str(paths[1]),
        "ssl_keyfile": str(paths[2]),
    }
    assert security.for_confluent() == {
        "security.protocol": "SSL",
        "ssl.ca.location": str(paths[0]),
        "ssl.certificate.location": str(paths[1]),
        "ssl.key.location": str(paths[2]),
    }
