"""Reads the streams of a log on Kinesis: every shard through splits and merges, parents first.

Kinesis lets each shard be asked five times a second by all its readers together. Shards are asked
side by side by a few threads, each at its own pace; who is throttled asks more seldom.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from connectors.aws_errors import call
from connectors.kinesis_address import KinesisAddress
from connectors.kinesis_aggregation import unpack
from connectors.kinesis_clock import ServerClock
from connectors.kinesis_shards import LATEST, SHARD_END, TRIM_HORIZON, Shard, ShardTree
from connectors.kinesis_streams import SERVICE, streams_missing, unavailable
from schemas.errors import CloudError, LogUnavailable

READS_PER_SECOND = 4.0
"""Of one shard by one reader; Kinesis allows 5 by all readers together."""
READ_RECORDS = 10_000
_THREADS = 8
_SLOWEST_S = 5.0
_PATIENCE_S = 60.0
"""An iterator lives for five minutes; a shard left alone longer than this gets a new one."""
_ABSENT = "ResourceNotFoundException"
_EXPIRED = "ExpiredIteratorException"
# Sequence numbers that were trimmed meanwhile, or of a stream that was made anew.
_NO_SUCH_PLACE = "InvalidArgumentException"


class Received(NamedTuple):
    """One record as it was read."""

    stream: str
    """Its stream in PHO."""
    shard: int
    """The number of its shard."""
    sequence: int
    """Its sequence number."""
    nth: int
    """Its place in a packed record, from 0."""
    key: str
    """Its key."""
    arrival_ms: int
    """When Kinesis took it, ms since 1970 UTC; never below that of the record before it."""
    data: bytes
    """Its bytes."""
    tags: tuple[tuple[str, str], ...] = ()
    """What a bridge noted beside it."""


class Batch(NamedTuple):
    """What one look at a shard brought."""

    stream: str
    """The stream."""
    shard_id: str
    """The shard."""
    records: list[Received]
    """Its records, in order."""
    place: str
    """Where the next look goes on: a sequence number, ``TRIM_HORIZON`` or ``SHARD_END``."""
    through_ms: int
    """Whatever arrived before this time was read, ms by Kinesis' clock."""
    behind_ms: int
    """How far the shard's reader is behind its newest record, ms."""


@dataclass(slots=True)
class _Reader:
    """One shard being read."""

    stream: str
    shard_id: str
    place: str
    highest_ms: int = 0
    iterator: str = ""
    asked_s: float = -1e9
    due_s: float = 0.0
    pause_s: float = 0.0
    begin: Mapping[str, Any] = field(default_factory=dict)


class KinesisSource:
    """Reads some streams, each shard from its place on. For one thread at a time.

    Parameters
    ----------
    client : boto3 client
        Of Kinesis; shared by the threads in here.
    address : KinesisAddress
        The log.
    places : mapping
        By stream, where to go on with each of its shards (`connectors.kinesis_shards`).
    reads_per_second : float
        How often a shard is asked.
    start : str
        ``LATEST``: begin behind the newest record of the shards that are open now; else every
        shard without a place is read from its beginning.
    since_ms : int, optional
        Begin at the first record that arrived then or later, ms, instead.
    """

    def __init__(
        self,
        client: Any,
        address: KinesisAddress,
        places: Mapping[str, Mapping[str, str]],
        reads_per_second: float = READS_PER_SECOND,
        start: str = "",
        since_ms: int | None = None,
    ) -> None:
        self.address = address
        self.clock = ServerClock()
        self.throttled = 0
        """Looks that Kinesis refused, since all readers together were too many."""
        self._client = client
        self._interval_s = 1.0 / reads_per_second
        self._trees = {stream: ShardTree(known) for stream, known in places.items()}
        self._readers: dict[tuple[str, str], _Reader] = {}
        self._floors: dict[tuple[str, str], int] = {}
        self._begin = (
            {}
            if since_ms is None
            else {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": since_ms / 1_000}
        )
        self._chance = random.Random()  # noqa: S311  not for secrets
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="pho-kinesis")
        try:
            for stream in self._trees:
                self._list(stream)
                if start == LATEST:
                    self._skip_to_end(stream)
            self._assign()
        except BaseException:
            self.close()
            raise

    @property
    def places(self) -> dict[str, dict[str, str]]:
        """Where each stream's shards were read to."""
        return {stream: dict(tree.places) for stream, tree in self._trees.items()}

    @property
    def reading(self) -> set[tuple[str, str]]:
        """The (stream, shard) that are read now; the others are done, or wait for their parents."""
        return set(self._readers)

    def poll(self, wait_s: float, among: Collection[tuple[str, str]] | None = None) -> list[Batch]:
        """Return one look at each shard whose turn it is, waiting at most so long for a turn, s.

        Only at those `among` these (stream, shard), where they are named.

        A shard that cannot be read for the moment is left out, and asked again more seldom.

        Raises
        ------
        LogUnavailable
            Kinesis will not be read before somebody changed something: the message says what. Or
            no shard at all could be read: ask again.
        """
        chosen = [r for key, r in self._readers.items() if among is None or key in among]
        now_s = time.monotonic()
        earliest_s = min((reader.due_s for reader in chosen), default=now_s + wait_s)
        if earliest_s > now_s:
            time.sleep(min(wait_s, earliest_s - now_s))
            now_s = time.monotonic()
        due = [reader for reader in chosen if reader.due_s <= now_s]
        try:
            asked: dict[Future[Batch], _Reader] = {self._pool.submit(self._look, r): r for r in due}
        except RuntimeError as error:
            # The threads end with the process; who still asks is a thread that ends with it too.
            problem = f"{self.address} is not read any more"
            raise LogUnavailable(problem, "Open it again") from error
        wait(asked)
        batches: list[Batch] = []
        failure: CloudError | None = None
        for future, reader in asked.items():
            try:
                batches.append(future.result())
                reader.pause_s = 0.0
            except CloudError as error:
                failure = self._failed(reader, error)
            reader.due_s = now_s + max(self._interval_s, reader.pause_s)
        for batch in batches:
            self._trees[batch.stream].places[batch.shard_id] = batch.place
        if any(batch.place == SHARD_END for batch in batches):
            self._assign()
        if failure is not None and not batches:
            raise unavailable(failure)
        return batches

    def close(self) -> None:
        """Stop reading."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    # Shards

    def _list(self, stream: str) -> None:
        name = self.address.stream_name(stream)
        shards: list[Shard] = []
        request: dict[str, Any] = {"StreamName": name}
        try:
            while True:
                answer = call(self._client, SERVICE, "ListShards", name, **request)
                shards += [_shard(told) for told in answer["Shards"]]
                if not answer.get("NextToken"):
                    break
                request = {"NextToken": answer["NextToken"]}
        except CloudError as error:
            if error.code == _ABSENT:
                raise streams_missing(self.address, [name]) from error
            raise unavailable(error) from error
        self._trees[stream].learn(shards, all_of_them=True)

    def _skip_to_end(self, stream: str) -> None:
        """Begin behind the newest record of the open shards; what is closed is past."""
        tree = self._trees[stream]
        for shard in tree.known.values():
            if shard.closed:
                tree.end(shard.shard_id)
            else:
                tree.places.setdefault(shard.shard_id, LATEST)

    def _assign(self) -> None:
        """Begin with shards whose turn came, and leave those that are done."""
        for stream, tree in self._trees.items():
            readable = tree.readable()
            for key in [k for k in self._readers if k[0] == stream and k[1] not in readable]:
                self._floors[key] = self._readers.pop(key).highest_ms
            for shard_id, place in readable.items():
                if (stream, shard_id) not in self._readers:
                    parents = tree.known[shard_id].parents
                    # A clock of another host of theirs may lag behind the parent's.
                    floor_ms = max((self._floors.get((stream, p), 0) for p in parents), default=0)
                    reader = _Reader(stream, shard_id, place, floor_ms)
                    reader.begin = self._begin
                    self._readers[stream, shard_id] = reader
                    if place == LATEST:
                        # Taken now: what comes from here on is read, however late the first look.
                        self._renew_or_raise(reader)

    def _renew_or_raise(self, reader: _Reader) -> None:
        try:
            self._renew(reader)
        except CloudError as error:
            raise unavailable(error) from error

    # Looks

    def _look(self, reader: _Reader) -> Batch:
        """Ask a shard once."""
        if reader.iterator and time.monotonic() - reader.asked_s > _PATIENCE_S:
            if reader.place != LATEST:
                reader.iterator = ""
        try:
            if not reader.iterator:
                self._renew(reader)
            sent_ms = self.clock.local_ms()
            answer = self._ask(reader)
        except CloudError as error:
            if error.code != _EXPIRED:
                raise
            self._renew(reader)
            sent_ms = self.clock.local_ms()
            answer = self._ask(reader)
        reader.asked_s = time.monotonic()
        records = [one for told in answer["Records"] for one in self._received(reader, told)]
        if records:
            reader.place = str(records[-1].sequence)
        following = answer.get("NextShardIterator") or ""
        reader.iterator = following
        if not following:
            reader.place = SHARD_END
            children = [_shard(told) for told in answer.get("ChildShards") or ()]
            self._trees[reader.stream].learn(children)
        behind_ms = int(answer.get("MillisBehindLatest") or 0)
        if behind_ms:
            # How far behind is told roughly; what surely was read is what came.
            through_ms = reader.highest_ms
        else:
            through_ms = max(self.clock.at(sent_ms), reader.highest_ms)
        return Batch(reader.stream, reader.shard_id, records, reader.place, through_ms, behind_ms)

    def _ask(self, reader: _Reader) -> Any:
        sent_ms = self.clock.local_ms()
        name = f"{self.address.stream_name(reader.stream)}/{reader.shard_id}"
        answer = call(
            self._client,
            SERVICE,
            "GetRecords",
            name,
            ShardIterator=reader.iterator,
            Limit=READ_RECORDS,
        )
        self.clock.note_answer(answer, sent_ms)
        return answer

    def _renew(self, reader: _Reader) -> None:
        """Get an iterator at the reader's place."""
        where: dict[str, Any]
        if reader.place == LATEST:
            where = {"ShardIteratorType": LATEST}
        elif reader.place == TRIM_HORIZON:
            where = dict(reader.begin) or {"ShardIteratorType": TRIM_HORIZON}
        else:
            where = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": reader.place,
            }
        name = self.address.stream_name(reader.stream)
        request = {"StreamName": name, "ShardId": reader.shard_id, **where}
        answer = call(self._client, SERVICE, "GetShardIterator", name, **request)
        reader.iterator = answer["ShardIterator"]
        reader.asked_s = time.monotonic()

    def _received(self, reader: _Reader, told: Mapping[str, Any]) -> Iterable[Received]:
        arrival_ms = round(told["ApproximateArrivalTimestamp"].timestamp() * 1_000)
        reader.highest_ms = max(reader.highest_ms, arrival_ms)
        data, sequence = bytes(told["Data"]), int(told["SequenceNumber"])
        shard = Shard(reader.shard_id).number
        parts = unpack(data)
        if parts is None:
            key = told["PartitionKey"]
            yield Received(reader.stream, shard, sequence, 0, key, reader.highest_ms, data)
            return
        for nth, part in enumerate(parts):
            yield Received(
                reader.stream,
                shard,
                sequence,
                nth,
                part.key,
                reader.highest_ms,
                part.data,
                part.tags,
            )

    def _failed(self, reader: _Reader, error: CloudError) -> CloudError:
        """Decide what a refused look means; return the error, or raise it where waiting is vain."""
        if error.code == _ABSENT:
            name = self.address.stream_name(reader.stream)
            raise streams_missing(self.address, [name]) from error
        if error.code == _NO_SUCH_PLACE:
            problem = f"{reader.shard_id} of {self.address} has no place {reader.place}"
            cure = "The stream was made anew: start with a new folder, or another prefix"
            raise LogUnavailable(problem, cure) from error
        if error.action != "retry":
            raise unavailable(error) from error
        self.throttled += "Throughput" in error.code or "Throttl" in error.code
        longest_s = min(_SLOWEST_S, max(self._interval_s, 2 * reader.pause_s))
        reader.pause_s = longest_s * (0.5 + self._chance.random() / 2)
        return error


def _shard(told: Mapping[str, Any]) -> Shard:
    """Return a shard as ListShards or the end of its parent tells it."""
    parents = told.get("ParentShards") or [
        told[name] for name in ("ParentShardId", "AdjacentParentShardId") if told.get(name)
    ]
    closed = "EndingSequenceNumber" in told.get("SequenceNumberRange", {})
    return Shard(told["ShardId"], tuple(parents), closed)
