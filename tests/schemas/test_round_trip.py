"""Every record survives its bytes, and another reader of Avro reads the same in them."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import msgspec
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.codec import current, decode, encode, released
from schemas.derive import avro_schema
from schemas.errors import PhoError, RecordError
from schemas.streams import RECORDS, STREAMS, key_of
from strategies import records

KINDS = sorted(RECORDS)
# Building a whole configuration or choice by chance is slow; what is tested is not.
few = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", KINDS)
def test_what_is_encoded_decodes_to_the_same(name: str) -> None:
    @few
    @given(records(RECORDS[name]))
    def check(record: Any) -> None:
        again = decode(encode(record))
        assert type(again) is RECORDS[name]
        assert again == record

    check()


@pytest.mark.parametrize("name", KINDS)
def test_a_reader_that_knows_only_avro_reads_the_datum(name: str) -> None:
    schema = fastavro.parse_schema(avro_schema(RECORDS[name]))

    @few
    @given(records(RECORDS[name]))
    def check(record: Any) -> None:
        stream = io.BytesIO(encode(record)[10:])
        datum = fastavro.schemaless_reader(stream, schema, None)
        assert stream.read() == b""
        told = msgspec.to_builtins(record, builtin_types=(bytes,))
        # Avro knows arrays, Python tuples and lists; JSON makes them alike.
        assert _plain(datum) == _plain(told)

    check()


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=lambda raw: raw.hex()))


def test_the_fingerprint_is_the_one_the_specification_publishes() -> None:
    assert fingerprint(to_parsing_canonical_form("int"), "CRC-64-AVRO") == (
        0x7275D51A3F395C8F.to_bytes(8, "little").hex()
    )


def _rabin(data: bytes) -> int:
    """CRC-64-AVRO bit by bit, as the specification defines it."""
    empty = 0xC15D213AA4D7A795
    crc = empty
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (empty if crc & 1 else 0)
    return crc


def test_the_bitwise_fingerprint_of_this_file_is_the_published_one_too() -> None:
    assert _rabin(b'"int"') == 0x7275D51A3F395C8F


@pytest.mark.parametrize("name", KINDS)
def test_the_header_is_the_marker_and_the_little_endian_fingerprint(name: str) -> None:
    entry = current(name)
    canonical = to_parsing_canonical_form(json.loads(entry.text))
    assert entry.header == b"\xc3\x01" + _rabin(canonical.encode()).to_bytes(8, "little")


def test_every_record_of_every_stream_has_a_key_and_no_two_schemas_a_header() -> None:
    assert len(released()) == len({entry.header for entry in released().values()})
    carried = {kind.__name__ for stream in STREAMS.values() for kind in stream.records}
    assert carried == {entry.name for entry in released().values()}


@few
@given(st.sampled_from(KINDS).flatmap(lambda name: records(RECORDS[name])))
def test_every_record_has_a_key_that_is_text(record: Any) -> None:
    assert isinstance(key_of(record), str)


def test_what_is_none_of_the_records_has_no_key() -> None:
    with pytest.raises(TypeError, match="none of the records"):
        key_of(object())


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    record=st.sampled_from(["OutcomeClosed", "FrameAnalyzed", "PolicySnapshot", "VisitEnded"])
    .flatmap(lambda name: records(RECORDS[name])),
    place=st.integers(0, 10_000),
    byte=st.integers(0, 255),
)  # fmt: skip
def test_an_altered_byte_gives_a_record_or_our_own_error_and_nothing_else(
    record: Any, place: int, byte: int
) -> None:
    data = bytearray(encode(record))
    data[place % len(data)] = byte
    try:
        decode(bytes(data))
    except PhoError as error:
        assert isinstance(error, RecordError)
