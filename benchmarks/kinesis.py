"""How fast records go to Kinesis and come back, beside plain boto3 in the same run.

python benchmarks/kinesis.py            # on moto's server: one process, one CPU; a floor, not AWS
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a clone, not installed

from connectors.aws_clients import AwsAccess, AwsClients
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_aggregation import Part
from connectors.kinesis_shards import SHARD_END
from connectors.kinesis_sink import KinesisSink
from connectors.kinesis_source import KinesisSource
from connectors.local_aws import REGION, LocalAws

BYTES = 600
FAST = 1e6
"""A server on this machine has no limit of 5 looks a second."""


def main() -> None:
    """Measure each way in turn, several rounds, and print medians with their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    data = b"x" * BYTES
    many = [Part(f"visit-{n}", data) for n in range(wanted.records)]
    one_key = [Part("greeting", data) for _ in range(wanted.records)]
    ways: dict[str, list[float]] = {}
    with LocalAws() as server:
        access = AwsAccess(region=REGION, endpoint=server.endpoint, read_timeout_ms=60_000)
        client = AwsClients(access).client("kinesis")
        for number in range(wanted.rounds):
            for name, count, write in (
                ("boto3 put_records, a key each", wanted.records, plain),
                ("PHO, a key each", wanted.records, ours),
                ("boto3 put_record, one key in order", wanted.records // 20, ordered),
                ("PHO, one key in order", wanted.records, ours),
            ):
                parts = (many if "a key each" in name else one_key)[:count]
                address = KinesisAddress(REGION, f"b{number}-{name.split()[0]}-{len(ways)}")
                make(client, address, wanted.shards)
                took = rate(count, partial(write, client, address, parts))
                ways.setdefault(f"in: {name}", []).append(took)
                if name == "PHO, a key each":
                    read_both(client, address, wanted.records, ways)
    report(ways)


def read_both(
    client: Any, address: KinesisAddress, count: int, ways: dict[str, list[float]]
) -> None:
    """Read what was just written, both ways."""
    for name, read in (("out: boto3 get_records", plain_read), ("out: PHO", our_read)):
        started_s = time.perf_counter()
        found = read(client, address)
        ways.setdefault(name, []).append(found / (time.perf_counter() - started_s))
        if found != count:
            print(f"{name}: {found} of {count} records came")


def rate(count: int, run: Callable[[], object]) -> float:
    """Return records a second."""
    started_s = time.perf_counter()
    run()
    return count / (time.perf_counter() - started_s)


def make(client: Any, address: KinesisAddress, shards: int) -> None:
    """Make the one stream that is measured."""
    client.create_stream(StreamName=address.stream_name("frames"), ShardCount=shards)
    client.get_waiter("stream_exists").wait(
        StreamName=address.stream_name("frames"), WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )


def ours(client: Any, address: KinesisAddress, parts: list[Part]) -> None:
    """Write as PHO does: each key in order, what failed again."""
    KinesisSink(client, address).put("frames", parts)


def plain(client: Any, address: KinesisAddress, parts: list[Part]) -> None:
    """Write as most programs do: 500 at a time, without looking what failed."""
    for begin in range(0, len(parts), 500):
        records = [{"Data": p.data, "PartitionKey": p.key} for p in parts[begin : begin + 500]]
        client.put_records(StreamName=address.stream_name("frames"), Records=records)


def ordered(client: Any, address: KinesisAddress, parts: list[Part]) -> None:
    """Write one key in order as AWS documents it: each call names the one before."""
    last: dict[str, str] = {}
    for part in parts:
        told = client.put_record(
            StreamName=address.stream_name("frames"),
            Data=part.data,
            PartitionKey=part.key,
            **last,
        )
        last = {"SequenceNumberForOrdering": told["SequenceNumber"]}


def plain_read(client: Any, address: KinesisAddress) -> int:
    """Read each shard to its end, one after another."""
    name, count = address.stream_name("frames"), 0
    for shard in client.list_shards(StreamName=name)["Shards"]:
        iterator = client.get_shard_iterator(
            StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while True:
            told = client.get_records(ShardIterator=iterator, Limit=10_000)
            count += len(told["Records"])
            iterator = told["NextShardIterator"]
            if not told["Records"] and not told["MillisBehindLatest"]:
                break
    return count


def our_read(client: Any, address: KinesisAddress) -> int:
    """Read all shards side by side, as the job does."""
    source = KinesisSource(client, address, {"frames": {}}, FAST)
    count, at_end = 0, set[tuple[str, str]]()
    while lacking := source.reading - at_end:
        for batch in source.poll(0.1, lacking):
            count += len(batch.records)
            if not batch.records and (not batch.behind_ms or batch.place == SHARD_END):
                at_end.add((batch.stream, batch.shard_id))
    source.close()
    return count


def report(ways: dict[str, list[float]]) -> None:
    """Print records a second, and what each of ours is of the other."""
    rates = {name: statistics.median(found) for name, found in ways.items()}
    for name, found in rates.items():
        print(f"{name:<40} {found:>10,.0f} records/s")
    for mine, theirs in (
        ("in: PHO, a key each", "in: boto3 put_records, a key each"),
        ("in: PHO, one key in order", "in: boto3 put_record, one key in order"),
        ("out: PHO", "out: boto3 get_records"),
    ):
        print(f"{mine} is {rates[mine] / rates[theirs]:.2f} x {theirs}")


if __name__ == "__main__":
    main()
