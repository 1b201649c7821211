"""What travels between Kafka, Flink and Python: two envelopes, as engines/flink/java reads them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from connectors.registry import RegistryFormat
from engines.flink.settings import JobSettings
from engines.one_key import RawRecord
from schemas.codec import decode, encode
from schemas.streams import STREAMS

PLACES: tuple[str, ...] = tuple(name for name in STREAMS if name != "ticks")
"""The streams that are topics; a record names its stream by its place here."""

_IN = struct.Struct(">BiqqH")
_OUT = struct.Struct(">BH")
_PLACE_OF = {stream: place for place, stream in enumerate(PLACES)}


class Wire:
    """Reads what the source gives and writes what the sink takes, on one worker.

    Parameters
    ----------
    settings : JobSettings
        Name the registry, if there is one.
    """

    def __init__(self, settings: JobSettings) -> None:
        self._registry = registry_of(settings)
        self._topics = dict(zip(PLACES, topics(settings.prefix), strict=True))
        self.reads = decode if self._registry is None else self._read

    def record(self, envelope: bytes) -> RawRecord:
        """Read place of the stream, partition, offset, log time, key and value."""
        place, partition, offset, log_time_ms, length = _IN.unpack_from(envelope)
        end = _IN.size + length
        key = envelope[_IN.size : end].decode("utf-8", "replace")
        raw = envelope[end:]
        return RawRecord(PLACES[place], key, log_time_ms, raw, offset, partition, self.reads)

    def emitted(self, stream: str, key: str, value: Any) -> bytes:
        """Write place of the stream, key and value."""
        data = encode(value)
        if self._registry is not None:
            data = self._registry.to_wire(self._topics[stream], data)
        encoded = key.encode()
        return _OUT.pack(_PLACE_OF[stream], len(encoded)) + encoded + data

    def _read(self, raw: bytes) -> Any:
        assert self._registry is not None  # noqa: S101 - only then is it called
        return decode(self._registry.from_wire(raw))


def registry_of(settings: JobSettings) -> RegistryFormat | None:
    """Return the registry's format; None: records are in Avro single-object encoding."""
    if not settings.registry:
        return None
    ca_file = settings.security.ca_file if settings.security else None
    return RegistryFormat(
        settings.registry, settings.registry_username, settings.registry_password, ca_file
    )


def envelope_of(record: RawRecord) -> bytes:
    """Write what the source would have given."""
    key = record.key.encode()
    head = _IN.pack(
        _PLACE_OF[record.stream], record.partition, record.offset, record.log_time_ms, len(key)
    )
    return head + key + record.raw


def topics(prefix: str, streams: Sequence[str] = PLACES) -> list[str]:
    """Return the topics of streams."""
    return [f"{prefix}.{stream}" if prefix else stream for stream in streams]
