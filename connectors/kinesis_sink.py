"""Writes to Kinesis: in batches, what failed again, and each key's records in their order.

`PutRecords` takes some records of a call and refuses others, and a later record of a key may pass
an earlier one that was refused. So no call holds two Kinesis records of one key: those of a key
that wait are packed into one (connectors/kinesis_aggregation.py), which is taken whole or not at
all, and the next of that key goes only when it was.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from connectors.aws_errors import call
from connectors.aws_failures import AGAIN, ANYWHERE, SERVICES
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_aggregation import MAGIC, Part, pack
from connectors.kinesis_shards import shard_number
from connectors.kinesis_streams import SERVICE, streams_missing, unavailable
from schemas.errors import CloudError, LogUnavailable, UsageError

CALL_RECORDS = 500
CALL_BYTES = 5 * 1024 * 1024
RECORD_BYTES = 1024 * 1024
"""The largest record, its key included. A stream may be set to take more; PHO does not use it."""
DELIVERY_TIMEOUT_MS = 120_000
"""How long an append holds its caller while Kinesis does not take it."""
# A shard takes 1 MB a second: a packed record of this size passes five times a second.
_PACK_BYTES = 200_000
_PACK_PARTS = 500
# Room for the tables and lengths around each part of a packed record.
_PART_OVERHEAD = 64
_KEY_LENGTH_MAX = 256
_PAUSE_FIRST_S = 0.05
_PAUSE_MAX_S = 5.0
_ABSENT = "ResourceNotFoundException"
# Refused as a whole: nothing of the call was carried out.
_NOT_DONE = (
    *("ProvisionedThroughputExceededException", "ThrottlingException", "LimitExceededException"),
    *("KMSThrottlingException", "RequestLimitExceeded"),
)


class Place(NamedTuple):
    """Where a record stands on Kinesis."""

    shard: int
    """The number of its shard."""
    sequence: int
    """Its sequence number, rising within the shard; up to 56 digits."""
    nth: int
    """Its place in a packed record, from 0."""


@dataclass(slots=True)
class _Unit:
    """One record as Kinesis gets it."""

    key: str
    data: bytes
    numbers: list[int]
    """Which of the parts it holds."""

    @property
    def size(self) -> int:
        return len(self.data) + len(self.key.encode())


@dataclass(slots=True)
class _Lane:
    """The records of one key that wait, in order; the first of them is on its way."""

    key: str
    waiting: deque[tuple[int, Part]] = field(default_factory=deque)
    head: _Unit | None = None

    def next(self) -> _Unit | None:
        """Return what goes next; the same until it was taken, since it may be there already."""
        if self.head is None and self.waiting:
            self.head = self._packed()
        return self.head

    def _packed(self) -> _Unit:
        taken: list[tuple[int, Part]] = []
        size = 0
        while self.waiting and len(taken) < _PACK_PARTS:
            size += _size(self.waiting[0][1])
            if taken and size > _PACK_BYTES:
                break
            taken.append(self.waiting.popleft())
        parts = [part for _, part in taken]
        alone = len(parts) == 1 and _is_plain(parts[0], self.key)
        data = parts[0].data if alone else pack(parts)
        return _Unit(self.key, data, [number for number, _ in taken])


class KinesisSink:
    """Writes to the streams of one log. For one thread at a time.

    Parameters
    ----------
    client : boto3 client
        Of Kinesis; the sink retries by itself, beside the client's own tries.
    address : KinesisAddress
        The log.
    delivery_timeout_ms : int
        How long `put` holds its caller while records are not taken.
    pause : callable
        Waits so many seconds.
    certain : bool
        True: a call that broke off, and may have been carried out all the same, is not repeated
        but told as an error: for who looks then what is there. Its client must try once only.
    """

    def __init__(
        self,
        client: Any,
        address: KinesisAddress,
        delivery_timeout_ms: int = DELIVERY_TIMEOUT_MS,
        pause: Callable[[float], object] = time.sleep,
        *,
        certain: bool = False,
    ) -> None:
        self._certain = certain
        self.address = address
        self.calls = 0
        """Calls made so far."""
        self.refused = 0
        """Records that a call did not take, each time."""
        self._client = client
        self._timeout_s = delivery_timeout_ms / 1_000
        self._pause = pause
        # Many kiosks throttled at once must not all come back at once.
        self._chance = random.Random()  # noqa: S311  not for secrets

    def put(self, stream: str, parts: Sequence[Part]) -> list[Place]:
        """Write records durably, those of a key in their order; return where they stand.

        Raises
        ------
        LogUnavailable
            Kinesis took none of them for the delivery timeout, or takes none at all: no
            permission, no such stream. Of each key the first so many may be written: give them
            again, readers take the first of an id.
        UsageError
            A record is too large; nothing was written.
        """
        lanes = _lanes(stream, parts)
        found: dict[int, Place] = {}
        until_s = time.monotonic() + self._timeout_s
        failed = 0
        last: CloudError | None = None
        while lanes:
            units = list(_batch(lanes))
            before = len(found)
            try:
                refused = self._send(stream, units, lanes, found)
            except CloudError as error:
                if error.action != "retry" or (self._certain and error.code not in _NOT_DONE):
                    raise self._explained(stream, error) from error
                refused, last = True, error
            failed = failed + 1 if refused else 0
            if len(found) > before:
                until_s = time.monotonic() + self._timeout_s
            if refused:
                if time.monotonic() >= until_s:
                    raise self._timed_out(stream, len(parts) - len(found), last)
                self._pause(self._pause_s(failed))
        return [found[number] for number in range(len(parts))]

    def _send(
        self, stream: str, units: Sequence[_Unit], lanes: dict[str, _Lane], found: dict[int, Place]
    ) -> bool:
        """Make one call; return whether anything was refused."""
        name = self.address.stream_name(stream)
        records = [{"Data": unit.data, "PartitionKey": unit.key} for unit in units]
        self.calls += 1
        answer = call(self._client, SERVICE, "PutRecords", name, StreamName=name, Records=records)
        told = answer["Records"]
        if len(told) != len(units):
            problem = f"AWS kinesis PutRecords of {name}: {len(told)} answers for {len(units)}"
            raise CloudError(problem, AGAIN.cure, "retry", "ForeignAnswer")
        refused: CloudError | None = None
        for unit, one in zip(units, told, strict=True):
            if one.get("SequenceNumber"):
                self._taken(unit, one, lanes, found)
                continue
            self.refused += 1
            # To the end of the queue: five hundred keys of one hot shard must not hold up others.
            lanes[unit.key] = lanes.pop(unit.key)
            refused = _refusal(name, one)
            if refused.action != "retry":
                raise refused
        return refused is not None

    def _taken(
        self, unit: _Unit, told: dict[str, Any], lanes: dict[str, _Lane], found: dict[int, Place]
    ) -> None:
        shard, sequence = shard_number(told["ShardId"]), int(told["SequenceNumber"])
        for nth, number in enumerate(unit.numbers):
            found[number] = Place(shard, sequence, nth)
        lane = lanes[unit.key]
        lane.head = None
        if not lane.waiting:
            del lanes[unit.key]

    def _pause_s(self, failed: int) -> float:
        """Return how long to wait: twice as long each time, and anything up to that by chance."""
        longest_s: float = min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0 ** min(failed, 16))
        return longest_s / 2 + self._chance.random() * longest_s / 2

    def _explained(self, stream: str, error: CloudError) -> LogUnavailable:
        if error.code == _ABSENT:
            return streams_missing(self.address, [self.address.stream_name(stream)])
        return unavailable(error)

    def _timed_out(self, stream: str, left: int, last: CloudError | None) -> LogUnavailable:
        name = self.address.stream_name(stream)
        why = f": {last.problem}" if last is not None else ", which is throttled"
        problem = f"{left} records were not taken by {name} within {self._timeout_s:.0f} s{why}"
        return LogUnavailable(problem, "Give them again; more shards take more a second")


def _lanes(stream: str, parts: Sequence[Part]) -> dict[str, _Lane]:
    lanes: dict[str, _Lane] = {}
    for number, part in enumerate(parts):
        if _size(part) > RECORD_BYTES:
            raise too_large(stream, part)
        key = partition_key(part.key)
        lanes.setdefault(key, _Lane(key)).waiting.append((number, part))
    return lanes


def _batch(lanes: dict[str, _Lane]) -> Iterator[_Unit]:
    """Yield what the next call holds: the head of so many lanes as fit."""
    size = count = 0
    for lane in lanes.values():
        unit = lane.next()
        if unit is None:
            continue
        size, count = size + unit.size, count + 1
        if count > CALL_RECORDS or size > CALL_BYTES:
            return
        yield unit


def partition_key(key: str) -> str:
    """Return the key as Kinesis takes it: itself, or where it cannot be, a hash of it."""
    if 0 < len(key) <= _KEY_LENGTH_MAX and key.isprintable():
        return key
    return hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=16).hexdigest()


def too_large(stream: str, part: Part) -> UsageError:
    """Return the error of a record that Kinesis does not take."""
    problem = f"a record of {len(part.data)} bytes for {stream} is too large for Kinesis"
    return UsageError(problem, f"It takes {RECORD_BYTES} bytes with the key")


def is_too_large(part: Part) -> bool:
    """Whether Kinesis would not take it."""
    return _size(part) > RECORD_BYTES


def _size(part: Part) -> int:
    tags = sum(len(name) + len(value) + _PART_OVERHEAD for name, value in part.tags)
    return len(part.data) + 2 * len(part.key.encode("utf-8", "replace")) + tags + _PART_OVERHEAD


def _is_plain(part: Part, key: str) -> bool:
    # Bytes that look packed are packed once more, so that they come out as they went in.
    return part.key == key and not part.tags and not part.data.startswith(MAGIC)


def _refusal(name: str, told: dict[str, Any]) -> CloudError:
    code = str(told.get("ErrorCode", "InternalFailure"))
    failure = SERVICES[SERVICE].failures.get(code) or ANYWHERE.get(code, AGAIN)
    text = " ".join(str(told.get("ErrorMessage", "")).split())[:200]
    problem = f"AWS kinesis PutRecords of {name}: {code}: {text}"
    return CloudError(problem, failure.cure, failure.action, code)
