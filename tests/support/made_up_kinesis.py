"""A Kinesis in memory, as far as reading goes, whose shards split and merge when told."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5
from typing import Any

HASHES = 2**128


@dataclass(slots=True)
class MadeUpShard:
    """One shard."""

    number: int
    low: int
    high: int
    parents: list[str]
    closed: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"shardId-{self.number:012d}"


class MadeUpKinesis:
    """One stream; records are numbered through, and arrive a millisecond apart."""

    def __init__(self, limit: int = 3) -> None:
        self.shards = [MadeUpShard(0, 0, HASHES - 1, [])]
        self.limit = limit
        self.reads = 0
        self.expire_every = 0
        self.throttle_every = 0
        self._lock = threading.Lock()
        self._iterators = 0
        self._expired: set[str] = set()
        self._written = 0
        self.newest: dict[str, Any] = {}

    # What a test does

    @property
    def open(self) -> list[MadeUpShard]:
        found = [shard for shard in self.shards if not shard.closed]
        return sorted(found, key=lambda shard: shard.low)

    def put(self, key: str, data: bytes) -> None:
        """Write a record to the shard of its key."""
        with self._lock:
            place = int.from_bytes(md5(key.encode(), usedforsecurity=False).digest())
            shard = next(s for s in self.open if s.low <= place <= s.high)
            self._written += 1
            self.newest = {
                "SequenceNumber": str(10**55 + self._written),
                "ApproximateArrivalTimestamp": datetime.fromtimestamp(
                    1_000_000 + self._written / 1_000, UTC
                ),
                "Data": data,
                "PartitionKey": key,
            }
            shard.records.append(self.newest)

    def split(self, at: int) -> None:
        """Split an open shard in two."""
        with self._lock:
            shard = self.open[at % len(self.open)]
            shard.closed = True
            middle = (shard.low + shard.high) // 2
            for low, high in ((shard.low, middle), (middle + 1, shard.high)):
                self.shards.append(MadeUpShard(len(self.shards), low, high, [shard.name]))

    def merge(self, at: int) -> None:
        """Merge two neighbours, where there are two."""
        with self._lock:
            if len(self.open) < 2:
                return
            at %= len(self.open) - 1
            one, two = self.open[at : at + 2]
            one.closed = two.closed = True
            parents = [one.name, two.name]
            self.shards.append(MadeUpShard(len(self.shards), one.low, two.high, parents))

    # What boto3's client does

    def list_shards(self, **_request: Any) -> dict[str, Any]:
        with self._lock:
            return {"Shards": [_told(shard) for shard in self.shards]}

    def get_shard_iterator(
        self, ShardId: str, ShardIteratorType: str, **request: Any
    ) -> dict[str, Any]:
        shard = self._shard(ShardId)
        at = 0
        if ShardIteratorType == "LATEST":
            at = len(shard.records)
        elif ShardIteratorType == "AFTER_SEQUENCE_NUMBER":
            after = int(request["StartingSequenceNumber"])
            at = sum(int(r["SequenceNumber"]) <= after for r in shard.records)
        else:
            assert ShardIteratorType == "TRIM_HORIZON"
        return {"ShardIterator": self._iterator(ShardId, at)}

    def get_records(self, ShardIterator: str, **_request: Any) -> dict[str, Any]:
        from botocore.exceptions import ClientError

        with self._lock:
            self.reads += 1
            if self.expire_every and self.reads % self.expire_every == 0:
                self._expired.add(ShardIterator)
            if ShardIterator in self._expired:
                raise ClientError({"Error": {"Code": "ExpiredIteratorException"}}, "GetRecords")
            if self.throttle_every and self.reads % self.throttle_every == 0:
                code = "ProvisionedThroughputExceededException"
                raise ClientError({"Error": {"Code": code}}, "GetRecords")
            name, place, _ = ShardIterator.split(":")
            shard, at = self._shard(name), int(place)
            records = shard.records[at : at + self.limit]
            at += len(records)
            left = len(shard.records) - at
            told: dict[str, Any] = {"Records": records, "MillisBehindLatest": left}
            if left or not shard.closed:
                told["NextShardIterator"] = self._iterator(name, at)
            else:
                told["ChildShards"] = [
                    {"ShardId": child.name, "ParentShards": child.parents}
                    for child in self.shards
                    if name in child.parents
                ]
            return told

    def _iterator(self, name: str, at: int) -> str:
        self._iterators += 1
        return f"{name}:{at}:{self._iterators}"

    def _shard(self, name: str) -> MadeUpShard:
        return next(shard for shard in self.shards if shard.name == name)


def _told(shard: MadeUpShard) -> dict[str, Any]:
    told: dict[str, Any] = {"ShardId": shard.name, "SequenceNumberRange": {}}
    for name, parent in zip(
        ("ParentShardId", "AdjacentParentShardId"), shard.parents, strict=False
    ):
        told[name] = parent
    if shard.closed:
        told["SequenceNumberRange"]["EndingSequenceNumber"] = "1"
    return told


class MadeUpStreams:
    """Several made-up streams behind one client, which also takes records."""

    def __init__(self, names: list[str], limit: int = 3) -> None:
        self.streams = {name: MadeUpKinesis(limit) for name in names}
        self.fail_next: list[str] = []
        """What happens to the next calls that write: ``before`` or ``after`` it is carried out."""

    def put_records(self, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:
        from botocore.exceptions import ConnectionClosedError

        stream, answers = self.streams[StreamName], []
        fault = self.fail_next.pop(0) if self.fail_next else ""
        if fault == "before":
            raise ConnectionClosedError(endpoint_url="http://nowhere")
        for record in Records:
            stream.put(record["PartitionKey"], record["Data"])
            shard = next(s for s in stream.shards if s.records and s.records[-1] is stream.newest)
            number = shard.records[-1]["SequenceNumber"]
            answers.append({"ShardId": shard.name, "SequenceNumber": number})
        if fault == "after":
            raise ConnectionClosedError(endpoint_url="http://nowhere")
        return {"Records": answers, "FailedRecordCount": 0}

    def list_shards(self, StreamName: str, **_request: Any) -> dict[str, Any]:
        return self.streams[StreamName].list_shards()

    def get_shard_iterator(self, StreamName: str, **request: Any) -> dict[str, Any]:
        told = self.streams[StreamName].get_shard_iterator(**request)
        return {"ShardIterator": f"{StreamName}|{told['ShardIterator']}"}

    def get_records(self, ShardIterator: str, **_request: Any) -> dict[str, Any]:
        name, _, inner = ShardIterator.partition("|")
        told = self.streams[name].get_records(inner)
        if "NextShardIterator" in told:
            told["NextShardIterator"] = f"{name}|{told['NextShardIterator']}"
        return told
