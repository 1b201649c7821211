"""Splits and merges shards while records flow, as an account's operator would."""

from __future__ import annotations

import time
from typing import Any

from connectors.kinesis_address import KinesisAddress
from schemas.errors import ResourceError

STREAM = "frames"
_ACTIVE_WITHIN_S = 30.0


class Reshaping:
    """Splits the shard of the frames in two, later merges the two; each once.

    Parameters
    ----------
    client : boto3 client of Kinesis
        Whose it is must be allowed to: PHO's own roles are not (deploy/aws).
    address : KinesisAddress
        The log.
    visits : int
        How many visits will come, with five records each: a third of the way it splits, at two
        thirds it merges.
    """

    def __init__(self, client: Any, address: KinesisAddress, visits: int) -> None:
        self.done: list[str] = []
        """What was done, to read."""
        self._client = client
        self._name = address.stream_name(STREAM)
        self._at = (max(2, 5 * visits // 3), max(4, 10 * visits // 3))

    def __call__(self, sent: int) -> None:
        """Do what is due after so many records."""
        open_shards = [] if sent not in self._at else self._open()
        if sent == self._at[0] and len(open_shards) == 1:
            self._split(open_shards[0])
        elif sent == self._at[1] and len(open_shards) == 2:
            self._merge(*open_shards)

    def _split(self, shard: dict[str, Any]) -> None:
        hashes = shard["HashKeyRange"]
        middle = (int(hashes["StartingHashKey"]) + int(hashes["EndingHashKey"]) + 1) // 2
        self._client.split_shard(
            StreamName=self._name,
            ShardToSplit=shard["ShardId"],
            NewStartingHashKey=str(middle),
        )
        self._wait()
        self.done.append(f"{self._name} {shard['ShardId']} split")

    def _merge(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        self._client.merge_shards(
            StreamName=self._name,
            ShardToMerge=one["ShardId"],
            AdjacentShardToMerge=other["ShardId"],
        )
        self._wait()
        self.done.append(f"{self._name} {one['ShardId']} and {other['ShardId']} merged")

    def _open(self) -> list[dict[str, Any]]:
        shards = self._client.list_shards(StreamName=self._name)["Shards"]
        found = [s for s in shards if "EndingSequenceNumber" not in s["SequenceNumberRange"]]
        return sorted(found, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))

    def _wait(self) -> None:
        until_s = time.monotonic() + _ACTIVE_WITHIN_S
        while time.monotonic() < until_s:
            told = self._client.describe_stream_summary(StreamName=self._name)
            if told["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE":
                return
            time.sleep(0.05)
        problem = f"{self._name} is not active after {_ACTIVE_WITHIN_S:.0f} s"
        raise ResourceError(problem, "Start the demo again")
