"""Golden records of every release, older schemas, and bytes that are none of ours."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import fastavro
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from golden_records import as_json, example, golden_path
from schemas.codec import MARKER, Released, current, decode, encode, released
from schemas.decisions import DecisionShown, VisitEnded
from schemas.errors import InvalidRecord, TornRecord, UnknownSchema
from schemas.streams import RECORDS
from worlds import ended, shown

GOLDEN = sorted((entry.name, entry.version) for entry in released().values())


def _golden(name: str, version: int) -> bytes:
    return bytes.fromhex(golden_path(name, version).read_text())


def _tells(value: Any, golden: Any) -> bool:
    """Whether a value says all that a golden one says; fields of later releases may be there."""
    if isinstance(golden, dict):
        return all(name in value and _tells(value[name], told) for name, told in golden.items())
    if isinstance(golden, list):
        pairs = zip(value, golden, strict=True)
        return len(value) == len(golden) and all(_tells(one, other) for one, other in pairs)
    return bool(value == golden) and type(value) is type(golden)


@pytest.mark.parametrize(("name", "version"), GOLDEN)
def test_what_any_release_wrote_is_read_for_ever(name: str, version: int) -> None:
    told = json.loads(golden_path(name, version).with_name(f"{name}.json").read_text("utf-8"))
    record = decode(_golden(name, version))
    assert type(record) is RECORDS[name]
    assert _tells(as_json(record), told)


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_the_newest_release_still_writes_its_golden_bytes(name: str) -> None:
    assert encode(example(RECORDS[name])) == _golden(name, current(name).version)


@pytest.mark.parametrize(("name", "version"), GOLDEN)
def test_a_record_that_ends_early_is_torn_wherever_it_ends(name: str, version: int) -> None:
    data = _golden(name, version)
    for end in range(10, len(data)):
        with pytest.raises(TornRecord, match="does not decode"):
            decode(data[:end])
    for end in range(10):
        with pytest.raises(UnknownSchema):
            decode(data[:end])


def test_a_record_followed_by_more_is_torn() -> None:
    with pytest.raises(TornRecord, match="followed by 1 more bytes"):
        decode(encode(shown("v", "a0", 1)) + b"\x00")


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"\x00\x00\x00\x00\x07datum of a registry", MARKER + bytes(8) + b"\x00"],
    ids=["nothing", "json", "confluent", "another fingerprint"],
)
def test_foreign_bytes_name_no_schema_of_ours(data: bytes) -> None:
    with pytest.raises(UnknownSchema, match=data[:10].hex() or "nothing"):
        decode(data)


def test_bytes_that_decode_to_an_impossible_record_are_refused() -> None:
    datum = {**as_json(ended("v", 1)), "ended_at_ms": -1}
    buffer = io.BytesIO()
    entry = current("VisitEnded")
    buffer.write(entry.header)
    fastavro.schemaless_writer(buffer, entry.schema, datum)
    with pytest.raises(InvalidRecord, match="a VisitEnded is impossible: ended_at_ms is -1"):
        decode(buffer.getvalue())


def _release(schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Released:
    """Pretend that a schema was released before version 1."""
    crc = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    header = MARKER + bytes.fromhex(crc)
    parsed = fastavro.parse_schema(schema)
    entry = Released(schema["name"], 0, header, parsed, json.dumps(schema))
    monkeypatch.setitem(released(), header, entry)
    return entry


def _written(entry: Released, datum: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    buffer.write(entry.header)
    fastavro.schemaless_writer(buffer, entry.schema, datum)
    return buffer.getvalue()


def test_fields_the_writer_did_not_know_have_their_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schema = json.loads(current("DecisionShown").text)
    schema["fields"] = [f for f in schema["fields"] if "default" not in f]
    entry = _release(schema, monkeypatch)
    record: DecisionShown = shown("v", "a0", 5)
    told = {field["name"]: getattr(record, field["name"]) for field in schema["fields"]}
    assert len(told) == 5
    assert decode(_written(entry, told)) == record


def test_fields_we_do_not_know_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = json.loads(current("DecisionShown").text)
    schema["fields"].insert(2, {"name": "mood_of_kiosk", "type": "string", "default": ""})
    entry = _release(schema, monkeypatch)
    record = replace(shown("v", "a0", 5), fallback=True, kiosk_id="k")
    assert decode(_written(entry, {**as_json(record), "mood_of_kiosk": "x"})) == record


def test_an_enumeration_symbol_we_do_not_know_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = json.loads(current("VisitEnded").text)
    reason = next(f for f in schema["fields"] if f["name"] == "reason")
    reason["type"]["symbols"].append("evacuated")
    entry = _release(schema, monkeypatch)
    record: VisitEnded = ended("v", 5, 2)
    told = as_json(record) | {"reason": "evacuated"}
    assert decode(_written(entry, told)) == replace(record, reason="unknown")


def test_a_record_of_no_stream_has_no_schema() -> None:
    with pytest.raises(UnknownSchema, match="no schema for 'Box' is released"):
        current("Box")
