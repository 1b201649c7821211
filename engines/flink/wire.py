"""What travels between Kafka, Flink and Python: two envelopes, as engines/flink/java reads them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from engines.one_key import RawRecord
from schemas.streams import STREAMS

PLACES: tuple[str, ...] = tuple(name for name in STREAMS if name != "ticks")
"""The streams that are topics; a record names its stream by its place here."""

_IN = struct.Struct(">BiqqH")
_OUT = struct.Struct(">BH")
_PLACE_OF = {stream: place for place, stream in enumerate(PLACES)}


def record_of(envelope: bytes) -> RawRecord:
    """Read what the source gives: place of the stream, partition, offset, log time, key, value."""
    place, partition, offset, log_time_ms, length = _IN.unpack_from(envelope)
    end = _IN.size + length
    key = envelope[_IN.size : end].decode("utf-8", "replace")
    return RawRecord(PLACES[place], key, log_time_ms, envelope[end:], offset, partition)


def envelope_of(record: RawRecord) -> bytes:
    """Write what the source would have given."""
    key = record.key.encode()
    head = _IN.pack(
        _PLACE_OF[record.stream], record.partition, record.offset, record.log_time_ms, len(key)
    )
    return head + key + record.raw


def emitted(stream: str, key: str, value: bytes) -> bytes:
    """Write what the sink takes: place of the stream, key, value."""
    encoded = key.encode()
    return _OUT.pack(_PLACE_OF[stream], len(encoded)) + encoded + value


def topics(prefix: str, streams: Sequence[str] = PLACES) -> list[str]:
    """Return the topics of streams."""
    return [f"{prefix}.{stream}" if prefix else stream for stream in streams]
