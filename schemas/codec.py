"""Records to bytes and back: Avro single-object encoding, every schema ever released.

The wire format is that of the Avro specification, "Single object encoding": the marker C3 01, the
CRC-64-AVRO fingerprint of the writer's schema (little-endian), then the datum.
"""

from __future__ import annotations

import io
import json
import re
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import fastavro
import msgspec
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.compiled import Decoder, Encoder, Habits, Kept, compile_decoder, compile_encoder
from schemas.decisions import Choice, Presentation, RewardRules
from schemas.errors import InvalidRecord, TornRecord, UnknownSchema
from schemas.streams import RECORDS

MARKER = b"\xc3\x01"
_HEADER_SIZE = 10
_FILE = re.compile(r"(?P<name>[A-Za-z]+)\.v(?P<version>[0-9]+)\.avsc")


class Released(NamedTuple):
    """One released schema of one record."""

    name: str
    """Name of the record."""
    version: int
    """Counts the releases of this record's schema, from 1."""
    header: bytes
    """Marker and fingerprint: the first ten bytes of whatever it wrote."""
    schema: Any
    """The schema, parsed by fastavro."""
    text: str
    """The file, as released."""


@cache
def released() -> dict[bytes, Released]:
    """Return every schema ever released, by the header of what it wrote."""
    found: dict[bytes, Released] = {}
    for file in resources.files("schemas").joinpath("avro").iterdir():
        match = _FILE.fullmatch(file.name)
        if match is None:
            continue
        text = file.read_text(encoding="utf-8")
        raw = json.loads(text)
        crc = fingerprint(to_parsing_canonical_form(raw), "CRC-64-AVRO")
        # fastavro prints the fingerprint as the little-endian bytes in hexadecimal.
        header = MARKER + bytes.fromhex(crc)
        schema = fastavro.parse_schema(raw)
        found[header] = Released(match["name"], int(match["version"]), header, schema, text)
    return found


@cache
def current(name: str) -> Released:
    """Return the newest released schema of a record: what we write.

    Raises
    ------
    UnknownSchema
        When no record of that name was ever released.
    """
    candidates = [entry for entry in released().values() if entry.name == name]
    if not candidates:
        problem = f"no schema for {name!r} is released"
        raise UnknownSchema(problem, "`pho schemas` lists those that are")
    return max(candidates, key=lambda entry: entry.version)


class _Coder(NamedTuple):
    header: bytes
    encode: Encoder
    decode: Decoder


_HABITS = Habits(
    kept={kind: Kept() for kind in (Choice, RewardRules, Presentation)},
    alike=frozenset({RewardRules}),
    texts=frozenset(
        {
            *("loop_id", "kiosk_id", "action_id", "baseline_id", "policy_id", "shown_action_id"),
            *("config_hash", "features_hash", "policy_checksum", "id", "name", "learnable_reason"),
            *("analyser", "analyser_version", "text", "language", "voice", "mood"),
        }
    ),
)
_CODERS: dict[type[Any], _Coder] = {}
_CODERS_BY_HEADER: dict[bytes, _Coder] = {}


def _coder(kind: type[Any]) -> _Coder:
    """Return what encodes and decodes the newest schema of a record, compiled at first use."""
    header = current(kind.__name__).header
    coder = _Coder(header, compile_encoder(kind, _HABITS), compile_decoder(kind, _HABITS))
    _CODERS[kind] = _CODERS_BY_HEADER[header] = coder
    return coder


def encode(record: Any) -> bytes:
    """Encode a record with the newest schema of its kind.

    Parameters
    ----------
    record : any of our records
        Its class names the schema.

    Returns
    -------
    bytes
        Ten bytes of header, then the Avro datum.
    """
    kind = type(record)
    coder = _CODERS.get(kind)
    if coder is None:
        coder = _coder(kind)
    return coder.header + coder.encode(record)


def decode(data: bytes) -> Any:
    """Decode what any release of PHO ever wrote.

    Parameters
    ----------
    data : bytes
        One record in single-object encoding.

    Returns
    -------
    any of our records
        Fields the writer did not know have their defaults; enumeration symbols we do not know
        are ``unknown``.

    Raises
    ------
    UnknownSchema
        When the header names no released schema.
    TornRecord
        When the bytes end early or do not follow their schema.
    InvalidRecord
        When they decode, but to an impossible record.
    """
    header = data[:_HEADER_SIZE]
    coder = _CODERS_BY_HEADER.get(header)
    if coder is None and header in released():
        newest = current(released()[header].name)
        coder = _coder(RECORDS[newest.name]) if newest.header == header else None
    if coder is not None:
        try:
            value, end = coder.decode(data, _HEADER_SIZE)
            if end == len(data):
                return value
        except Exception:  # noqa: BLE001, S110 - whatever is odd here, fastavro names below
            pass
    return _decode_any(data)


def _decode_any(data: bytes) -> Any:
    """Decode with fastavro: old schemas, odd bytes, and the errors that name what is wrong."""
    writer = released().get(data[:_HEADER_SIZE])
    if writer is None:
        problem = f"the record starts with {data[:_HEADER_SIZE].hex() or 'nothing'}"
        raise UnknownSchema(problem, "No release of PHO wrote that; see `pho schemas`")
    reader = current(writer.name)
    stream = io.BytesIO(data)
    stream.seek(_HEADER_SIZE)
    schema = None if reader is writer else reader.schema
    try:
        datum = fastavro.schemaless_reader(stream, writer.schema, schema)
    except Exception as error:
        problem = f"a {writer.name} does not decode: {type(error).__name__}: {error}"
        raise TornRecord(problem) from error
    if stream.tell() != len(data):
        problem = f"a {writer.name} is followed by {len(data) - stream.tell()} more bytes"
        raise TornRecord(problem, "One record is one value")
    try:
        return msgspec.convert(datum, RECORDS[writer.name])
    except (msgspec.ValidationError, InvalidRecord) as error:
        problem = f"a {writer.name} is impossible: {error}"
        raise InvalidRecord(problem) from error
