"""The Confluent wire format: turned both ways, foreign schemas told apart, asked for once."""

from __future__ import annotations

import json

import pytest

from brokers import fresh_topics
from connectors import registry as registry_module
from connectors.kafka_clients import ClientName, connect
from connectors.kafka_log import KafkaLog
from connectors.local_kafka import LocalKafka
from connectors.registry import RegistryFormat
from schema_registry import schema_registry
from schemas.codec import current, decode, encode, released
from schemas.errors import LogUnavailable, UnknownSchema, UsageError
from schemas.operations import Tick
from worlds import START_MS, loop, rewarded

T = START_MS


def test_a_record_is_its_id_and_the_same_datum() -> None:
    with schema_registry() as (url, server):
        value = encode(rewarded("v", 1, 0.5, T))
        wire = RegistryFormat(url).to_wire("shop.rewards", value)
        assert wire == b"\x00\x00\x00\x00\x01" + value[10:]
        assert list(server.subjects) == ["shop.rewards-value"]
        assert server.schemas[1] == current("RewardObserved").text
        assert RegistryFormat(url).from_wire(wire) == value


def test_every_schema_ever_released_comes_back() -> None:
    with schema_registry() as (url, _):
        writer, reader = RegistryFormat(url), RegistryFormat(url)
        for header in released():
            value = header + b"datum"
            assert reader.from_wire(writer.to_wire("all", value)) == value


def test_several_records_share_a_topic() -> None:
    with schema_registry() as (url, server):
        format_ = RegistryFormat(url)
        for value in (loop(), Tick(T, "x"), rewarded("v", 1, 0.5, T)):
            format_.to_wire("shop.outcomes", encode(value))
        assert server.subjects == {"shop.outcomes-value": [1, 2, 3]}
        assert server.levels == {"shop.outcomes-value": "NONE"}


def test_a_subject_that_is_there_keeps_its_level_and_a_refusal_says_what_to_do() -> None:
    with schema_registry() as (url, server):
        server.schemas[1] = json.dumps({"type": "record", "name": "Other", "fields": []})
        server.subjects["shop.rewards-value"] = [1]
        with pytest.raises(LogUnavailable) as told:
            RegistryFormat(url).to_wire("shop.rewards", encode(rewarded("v", 1, 0.5, T)))
        assert "NONE" in told.value.cure
        assert server.levels == {}


def test_the_registry_is_asked_once_for_each_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    with schema_registry() as (url, server):
        writer, reader = RegistryFormat(url), RegistryFormat(url)
        for number in range(20):
            wire = writer.to_wire("r", encode(rewarded("v", number, 0.5, T)))
            reader.from_wire(wire)
        assert server.asked == [
            "GET /subjects/r-value/versions",
            "PUT /config/r-value",
            "POST /subjects/r-value/versions",
            "GET /schemas/ids/1",
        ]
        server.asked.clear()
        for _ in range(20):
            with pytest.raises(UnknownSchema):
                reader.from_wire(b"\x00\x00\x00\x00\x63datum")
        assert server.asked == ["GET /schemas/ids/99"]
        # It may have been behind: after a while it is asked again, and knows it now.
        monkeypatch.setattr(registry_module, "ASK_AGAIN_S", 0.0)
        server.schemas[99] = current("Tick").text
        assert reader.from_wire(b"\x00\x00\x00\x00\x63x") == current("Tick").header + b"x"


@pytest.mark.parametrize(
    "schema", ['{"type": "record", "name": "Other", "fields": []}', "syntax = 'proto3';", "[1"]
)
def test_a_foreign_schema_is_none_of_ours(schema: str) -> None:
    with schema_registry() as (url, server):
        server.schemas[7] = schema
        with pytest.raises(UnknownSchema) as told:
            RegistryFormat(url).from_wire(b"\x00\x00\x00\x00\x07datum")
        assert told.value.cure


@pytest.mark.parametrize("torn", [b"\x00", b"\x00\x00\x00\x01", b"\x00\xff\xff\xff\xff"])
def test_a_torn_header_is_no_schema(torn: bytes) -> None:
    with schema_registry() as (url, _), pytest.raises(UnknownSchema):
        RegistryFormat(url).from_wire(torn)


def test_what_is_in_neither_format_stays_as_it_is() -> None:
    # Nobody listens there: neither needs the registry.
    format_ = RegistryFormat("http://127.0.0.1:9")
    for value in (b"", b"\xc3\x01", b"hello", encode(Tick(T, "x"))):
        assert format_.from_wire(value) == value
    for value in (b"", b"\x00\x00\x00\x00\x01x", b"hello"):
        assert format_.to_wire("t", value) == value


def test_a_registry_that_is_away_is_no_poison() -> None:
    with pytest.raises(LogUnavailable, match=r"http://127\.0\.0\.1:9") as told:
        RegistryFormat("http://127.0.0.1:9").from_wire(b"\x00\x00\x00\x00\x01x")
    assert told.value.cure


def test_user_and_password_are_sent_and_their_refusal_is_named() -> None:
    # "me:hunter2" in base 64.
    with schema_registry(password="Basic bWU6aHVudGVyMg==") as (url, _):  # noqa: S106
        value = encode(Tick(T, "x"))
        RegistryFormat(url, "me", "hunter2").to_wire("t", value)
        with pytest.raises(LogUnavailable) as told:
            RegistryFormat(url).to_wire("t", value)
        assert "password" in told.value.cure


@pytest.mark.parametrize("url", ["host:8081", "ftp://host", "http://", "http://me:pw@host:8081"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        RegistryFormat(url)
    assert "pw" not in str(refused.value)


def test_a_log_writes_one_format_and_reads_both(
    broker: LocalKafka, client_name: ClientName
) -> None:
    values = [rewarded("v", n, 0.5, T) for n in range(3)]
    with schema_registry() as (url, _), fresh_topics(broker.bootstrap) as address:
        plain = KafkaLog(connect(address, client=client_name))
        log = KafkaLog(connect(address, client=client_name), registry=RegistryFormat(url))
        plain.append("rewards", values[0])
        log.append("rewards", values[1])
        log.append("ticks", Tick(T, "x"))
        plain.append("rewards", values[2])
        log.append_bytes([("rewards", "v", b"\x00\x00\x00\x00\x63foreign")])
        rows = list(log.scan("rewards"))
        assert [decode(row.value) for row in rows[:3]] == values
        assert rows[3].value == b"\x00\x00\x00\x00\x63foreign"
        raw = [row.value[:1] for row in plain.scan("rewards", key="v")]
        assert raw == [b"\xc3", b"\x00", b"\xc3", b"\x00"]
        assert len(list(log.scan("ticks"))) == 14
        plain.close()
        log.close()
