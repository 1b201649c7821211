"""Several records in one of Kinesis, in the format of Amazon's producer library.

Readers of AWS (KCL, Lambda's tools, Flink's connector) take such records apart by themselves. PHO
writes one for three reasons: records of one key that wait for each other go together, in order,
whole or not at all; a key that Kinesis does not take (empty, or longer than 256) is kept; a bridged
record carries its log time and its place in the source, which Kinesis has no headers for.

Format: https://github.com/awslabs/amazon-kinesis-producer, aggregation-format.md: four magic bytes,
a protocol buffer (tables of partition keys, then records with index, data and tags), MD5 of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16
_VARINT, _BYTES = 0, 2
_KEY_TABLE, _RECORD = 1, 3
_KEY_INDEX, _DATA, _TAG = 1, 3, 4
_TAG_NAME, _TAG_VALUE = 1, 2


class Part(NamedTuple):
    """One record inside."""

    key: str
    """Its key; any text."""
    data: bytes
    """Its bytes."""
    tags: tuple[tuple[str, str], ...] = ()
    """Names and values beside it; other readers pass them over."""


def pack(parts: Sequence[Part]) -> bytes:
    """Return the bytes of one Kinesis record that holds all of these, in order."""
    places: dict[str, int] = {}
    for part in parts:
        places.setdefault(part.key, len(places))
    body = bytearray()
    for key in places:
        body += _field(_KEY_TABLE, key.encode())
    for part in parts:
        record = _varint_field(_KEY_INDEX, places[part.key]) + _field(_DATA, part.data)
        for name, value in part.tags:
            tag = _field(_TAG_NAME, name.encode()) + _field(_TAG_VALUE, value.encode())
            record += _field(_TAG, tag)
        body += _field(_RECORD, record)
    # The format asks for MD5, against torn bytes only.
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    return MAGIC + bytes(body) + digest


def unpack(data: bytes) -> list[Part] | None:
    """Return the records inside; None: these bytes are one record, or no whole aggregate."""
    if not data.startswith(MAGIC) or len(data) < len(MAGIC) + _DIGEST_BYTES:
        return None
    body, digest = data[len(MAGIC) : -_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.md5(body, usedforsecurity=False).digest() != digest:
        return None
    try:
        return _parts(body)
    except (IndexError, UnicodeDecodeError, ValueError):
        return None


def _parts(body: bytes) -> list[Part]:
    keys: list[str] = []
    found: list[Part] = []
    for number, value in _fields(body):
        if number == _KEY_TABLE and isinstance(value, bytes):
            keys.append(value.decode())
        elif number == _RECORD and isinstance(value, bytes):
            found.append(_part(value, keys))
    return found


def _part(record: bytes, keys: Sequence[str]) -> Part:
    index, data = 0, b""
    tags = []
    for number, value in _fields(record):
        if number == _KEY_INDEX and isinstance(value, int):
            index = value
        elif number == _DATA and isinstance(value, bytes):
            data = value
        elif number == _TAG and isinstance(value, bytes):
            named = {n: v.decode() for n, v in _fields(value) if isinstance(v, bytes)}
            tags.append((named.get(_TAG_NAME, ""), named.get(_TAG_VALUE, "")))
    return Part(keys[index], data, tuple(tags))


def _fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the (number, value) of a protocol buffer's fields.

    Raises
    ------
    ValueError, IndexError
        It ends early, or holds a kind of field that this format has none of.
    """
    at = 0
    while at < len(body):
        tag, at = _read_varint(body, at)
        number, kind = tag >> 3, tag & 7
        value, at = _read_varint(body, at)
        if kind == _VARINT:
            yield number, value
        elif kind == _BYTES and at + value <= len(body):
            yield number, body[at : at + value]
            at += value
        else:
            problem = f"field {number} of kind {kind} at {at}"
            raise ValueError(problem)


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            problem = "a number of more than 64 bits"
            raise ValueError(problem)
