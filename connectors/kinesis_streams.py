"""The streams on Kinesis: made as PHO needs them, and looked at where they are.

Administration stays AWS's: retention, encryption, shards of a stream that is there and who may use
it are set by the template in deploy/aws or by its own tools; PHO follows every split and merge.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from connectors.aws_errors import call
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_clock import ServerClock
from schemas.errors import CloudError, LogUnavailable, UsageError
from schemas.streams import STREAMS

SERVICE = "kinesis"
KINESIS_STREAMS = tuple(name for name in STREAMS if name != "ticks")
"""The streams there: all but Ticks, since time passes on Kinesis by itself
(connectors/kinesis_intake.py)."""
SINGLE = (
    *("loops", "policies", "alarms", "estimates", "erasures"),
    *("late", "unmatched", "dead-letters"),
)
"""Streams of one shard: a few records a minute."""
SHARDS = 1
"""Shards of the others, where nothing else is said: 1 MB and 1,000 records a second each."""

_READY_TIME_LIMIT_S = 180.0
_LOOK_EVERY_S = 0.2
_ABSENT = "ResourceNotFoundException"
# Two `pho topics create` at once: whoever comes second finds it made.
_THERE = "ResourceInUseException"


@dataclass(frozen=True, slots=True)
class StreamFound:
    """One stream of ours as it is on Kinesis."""

    stream: str
    """Its name in PHO."""
    name: str
    """Its name there."""
    status: str
    """``ACTIVE``, ``CREATING``, ``UPDATING`` or ``DELETING``."""
    shards: int
    """Its open shards."""
    retention_hours: int
    """How long records stay."""
    mode: str
    """``PROVISIONED`` or ``ON_DEMAND``."""


@dataclass(frozen=True, slots=True)
class StreamsReport:
    """What was made, and what is there."""

    created: list[str] = field(default_factory=list)
    """Streams that were made, by their names there."""
    found: list[StreamFound] = field(default_factory=list)
    """All of them, as they are now."""


def describe_streams(
    client: Any,
    address: KinesisAddress,
    streams: Iterable[str] = KINESIS_STREAMS,
    clock: ServerClock | None = None,
) -> dict[str, StreamFound]:
    """Return the streams that are there, by their names in PHO.

    Parameters
    ----------
    client : boto3 client
        Of Kinesis.
    address : KinesisAddress
        What their names start with.
    streams : iterable of str
        Only these.
    clock : ServerClock, optional
        Learns from the dates of the answers.

    Raises
    ------
    LogUnavailable
        Kinesis does not answer, or does not let us ask; the message says what is missing.
    """
    found = {}
    for stream in streams:
        there = _described(client, stream, address.stream_name(stream), clock)
        if there is not None:
            found[stream] = there
    return found


def create_streams(
    client: Any,
    address: KinesisAddress,
    shards: int = SHARDS,
    *,
    on_demand: bool = False,
) -> StreamsReport:
    """Make the streams that are missing, and wait until all can be used.

    Parameters
    ----------
    client : boto3 client
        Of Kinesis.
    address : KinesisAddress
        What their names start with.
    shards : int
        Shards of the streams that may need several, 1 or more; existing ones keep theirs.
    on_demand : bool
        True: AWS sets the number of shards by what comes (and asks more for it).

    Raises
    ------
    UsageError
        The number of shards is below 1.
    LogUnavailable
        Kinesis does not make them.
    """
    if shards < 1:
        problem = f"a stream of {shards} shards"
        raise UsageError(problem, "Give 1 or more")
    there = describe_streams(client, address)
    report = StreamsReport()
    until_s = time.monotonic() + _READY_TIME_LIMIT_S
    for stream in KINESIS_STREAMS:
        if stream not in there:
            name = address.stream_name(stream)
            _create(client, name, 1 if stream in SINGLE else shards, until_s, on_demand=on_demand)
            report.created.append(name)
    while True:
        there = describe_streams(client, address)
        waiting = [name for name in KINESIS_STREAMS if not _is_ready(there.get(name))]
        if not waiting:
            report.found.extend(there[name] for name in KINESIS_STREAMS)
            return report
        if time.monotonic() > until_s:
            problem = f"{address}: {', '.join(waiting)} cannot be used yet"
            raise LogUnavailable(problem, "Run it again; AWS takes a minute for a stream")
        time.sleep(_LOOK_EVERY_S)


def streams_missing(address: KinesisAddress, names: Iterable[str]) -> LogUnavailable:
    """Return the error of a log without our streams."""
    problem = f"{address} has no stream {', '.join(names)}"
    return LogUnavailable(problem, f"Make them: pho topics create --log {address}")


def unavailable(error: CloudError) -> LogUnavailable:
    """Return the log's error for one of the service's."""
    return LogUnavailable(error.problem, error.cure)


def _is_ready(found: StreamFound | None) -> bool:
    return found is not None and found.status in ("ACTIVE", "UPDATING")


def _described(
    client: Any, stream: str, name: str, clock: ServerClock | None
) -> StreamFound | None:
    sent_ms = clock.local_ms() if clock is not None else 0
    try:
        answer = call(client, SERVICE, "DescribeStreamSummary", name, StreamName=name)
    except CloudError as error:
        if error.code == _ABSENT:
            return None
        raise unavailable(error) from error
    if clock is not None:
        clock.note_answer(answer, sent_ms)
    told = answer["StreamDescriptionSummary"]
    return StreamFound(
        stream,
        name,
        told["StreamStatus"],
        told.get("OpenShardCount", 0),
        told.get("RetentionPeriodHours", 0),
        told.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED"),
    )


def _create(client: Any, name: str, shards: int, until_s: float, *, on_demand: bool) -> None:
    mode = "ON_DEMAND" if on_demand else "PROVISIONED"
    request: dict[str, Any] = {"StreamName": name, "StreamModeDetails": {"StreamMode": mode}}
    if not on_demand:
        request["ShardCount"] = shards
    while True:
        try:
            call(client, SERVICE, "CreateStream", name, **request)
            return
        except CloudError as error:
            if error.code == _THERE:
                return
            # AWS makes five streams a second, and so many at once.
            if error.action != "retry" or time.monotonic() > until_s:
                raise unavailable(error) from error
        time.sleep(_LOOK_EVERY_S)
