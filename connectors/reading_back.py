"""Reads stretches of Kafka partitions between two offsets: their newest records, above all."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from connectors.kafka_clients import Incoming, KafkaClient, Place
from connectors.registry import RegistryFormat
from schemas.codec import released
from schemas.errors import LogUnavailable, RecordError

_TIME_LIMIT_S = 30.0
# kafka-python sleeps the first poll of a reader through, whatever comes meanwhile.
_POLL_S = 0.02

_TICKS = tuple(entry.header for entry in released().values() if entry.name == "Tick")


def is_tick(record: Incoming, registry: RegistryFormat | None = None) -> bool:
    """Whether a record is a Tick, of any release, in our encoding or in the registry's."""
    value = record.value or b""
    try:
        return (value if registry is None else registry.from_wire(value)).startswith(_TICKS)
    except RecordError:
        return False


def read_between(
    client: KafkaClient, begin: Mapping[Place, int], ends: Mapping[Place, int]
) -> list[Incoming]:
    """Return the records of some partitions from some offsets on, up to others.

    Parameters
    ----------
    client : KafkaClient
        The client.
    begin : mapping
        The first offset wanted of each (topic, partition).
    ends : mapping
        The offset behind the last one wanted; it names every place of `begin`.

    Returns
    -------
    list of Incoming
        In the order of each partition.

    Raises
    ------
    LogUnavailable
        When they do not come within half a minute.
    """
    left = {place for place, offset in begin.items() if offset < ends[place]}
    if not left:
        return []
    found: list[Incoming] = []
    until_s = time.monotonic() + _TIME_LIMIT_S
    reader = client.reader({place: begin[place] for place in left})
    try:
        while left:
            if time.monotonic() > until_s:
                names = ", ".join(f"{topic}[{number}]" for topic, number in sorted(left))
                problem = f"{client.address} gives nothing of {names}"
                raise LogUnavailable(problem, "Check that its brokers are up; then try again")
            records = reader.poll(_POLL_S)
            found += (r for r in records if r.offset < ends[r.topic, r.partition])
            left = {place for place in left if reader.position(place) < ends[place]}
    finally:
        reader.close()
    return found


def newest_of(client: KafkaClient, places: Iterable[Place]) -> dict[Place, Incoming]:
    """Return the newest record of each partition that holds one."""
    places = list(places)
    starts, ends = client.starts(places), client.ends(places)
    begin = {place: max(starts[place], ends[place] - 1) for place in places}
    return {(r.topic, r.partition): r for r in read_between(client, begin, ends)}
