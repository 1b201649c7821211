"""One local Kinesis for a whole test run, and streams of its own for each test."""

from __future__ import annotations

import uuid
from functools import cache
from typing import Any

from connectors.aws_clients import AwsAccess, AwsClients
from connectors.clocks import WallClock
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_log import KinesisLog
from connectors.kinesis_streams import KINESIS_STREAMS
from connectors.local_kinesis import LocalKinesis, fetch_local_kinesis
from needs import need

READS_PER_SECOND = 25.0
"""A server on this machine has no limit of 5."""


def new_server() -> LocalKinesis:
    """Return a server that does not run yet."""
    need("npm")
    return LocalKinesis(fetch_local_kinesis())


@cache
def shared_server() -> LocalKinesis:
    """Return the one server of this run; it ends with the process."""
    server = new_server()
    server.start()
    return server


def fresh_address() -> KinesisAddress:
    """Return an address whose streams nobody else has."""
    return shared_server().address(f"t{uuid.uuid4().hex[:8]}")


def client_of(address: KinesisAddress, tries: int = 3) -> Any:
    """Return a client; it lives as long as the run."""
    access = AwsAccess(tries=tries, connect_timeout_ms=2_000, read_timeout_ms=5_000)
    return AwsClients(address.access(access)).client("kinesis")


def make_streams(
    address: KinesisAddress, shards: int = 2, streams: tuple[str, ...] = KINESIS_STREAMS
) -> None:
    """Make some streams, and wait for them: `create_streams` makes all, and takes longer."""
    client = client_of(address)
    for stream in streams:
        client.create_stream(StreamName=address.stream_name(stream), ShardCount=shards)
    waiter = client.get_waiter("stream_exists")
    for stream in streams:
        waiter.wait(
            StreamName=address.stream_name(stream), WaiterConfig={"Delay": 1, "MaxAttempts": 20}
        )


def open_log(address: KinesisAddress) -> KinesisLog:
    """Return a log that is read as fast as this machine gives it."""
    return KinesisLog(client_of(address), address, WallClock(), 20_000, READS_PER_SECOND)


def open_shards(address: KinesisAddress, stream: str) -> list[dict[str, Any]]:
    """Return the shards that take records, in the order of their keys."""
    told = client_of(address).list_shards(StreamName=address.stream_name(stream))["Shards"]
    found = [s for s in told if "EndingSequenceNumber" not in s["SequenceNumberRange"]]
    return sorted(found, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))


def split(address: KinesisAddress, stream: str) -> None:
    """Split the first open shard of a stream in two."""
    client, name = client_of(address), address.stream_name(stream)
    shard = open_shards(address, stream)[0]
    low, high = (int(shard["HashKeyRange"][f"{end}HashKey"]) for end in ("Starting", "Ending"))
    client.split_shard(
        StreamName=name,
        ShardToSplit=shard["ShardId"],
        NewStartingHashKey=str((low + high) // 2 + 1),
    )
    _settled(client, name)


def merge(address: KinesisAddress, stream: str) -> None:
    """Merge the first two open shards of a stream."""
    client, name = client_of(address), address.stream_name(stream)
    one, two = open_shards(address, stream)[:2]
    client.merge_shards(
        StreamName=name, ShardToMerge=one["ShardId"], AdjacentShardToMerge=two["ShardId"]
    )
    _settled(client, name)


def _settled(client: Any, name: str) -> None:
    client.get_waiter("stream_exists").wait(
        StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )
