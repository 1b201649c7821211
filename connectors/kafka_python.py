"""The Kafka client in pure Python: kafka-python, for kiosks, cameras and administration.

It takes the package ``crc32c`` where that is installed (the extra ``kafka`` brings it): without it
checksums take three quarters of a reader (3,700 records of 1 KB a second instead of 13,600).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import (
    AuthorizationError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RetriableError,
    UnknownTopicOrPartitionError,
)
from kafka.protocol.consumer.offsets import IsolationLevel
from kafka.structs import OffsetAndMetadata

from connectors.kafka_address import KafkaAddress, KafkaSecurity
from connectors.kafka_base import PAUSE_S, BaseClient, Failure
from connectors.kafka_clients import (
    MAX_RECORD_BYTES,
    RECONNECT_MAX_MS,
    REQUEST_TIMEOUT_MS,
    Incoming,
    Outgoing,
    Place,
    unavailable,
)

_BATCH_BYTES = 256 * 1024
_CONNECT_S = 3.0
_END_S = 5.0


class PythonClient(BaseClient[KafkaProducer]):
    """kafka-python behind our contract.

    Parameters
    ----------
    address : KafkaAddress
        The cluster.
    security : KafkaSecurity
        How to connect.
    delivery_timeout_ms : int
        How long `produce` holds its caller while no broker takes the records.
    """

    error = KafkaError

    def __init__(
        self, address: KafkaAddress, security: KafkaSecurity, delivery_timeout_ms: int
    ) -> None:
        super().__init__(address, delivery_timeout_ms)
        self._options: dict[str, Any] = {
            "bootstrap_servers": list(address.servers),
            "reconnect_backoff_max_ms": RECONNECT_MAX_MS,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            **security.for_kafka_python(),
        }
        self._admin: KafkaAdminClient | None = None

    # Writing

    def produce(self, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        """Write records durably, in order within each partition; return (partition, offset)."""
        until_s = time.monotonic() + self.delivery_timeout_ms / 1000
        try:
            producer = self._ready_producer(until_s)
            waiting = [
                producer.send(
                    record.topic,
                    record.value,
                    record.key,
                    list(record.headers),
                    record.partition,
                    record.timestamp_ms,
                )
                for record in records
            ]
            found = []
            for future in waiting:
                written = future.get(max(0.0, until_s - time.monotonic()) + 1.0)
                found.append((written.partition, written.offset))
        except BaseException as error:
            self._drop_producer()
            if isinstance(error, KafkaError):
                raise _failure_of(error).explained(
                    self.address, "takes no records", records
                ) from error
            raise
        return found

    def _new_producer(self, until_s: float) -> KafkaProducer:
        self._await_server(until_s)
        left_ms = max(1, int((until_s - time.monotonic()) * 1000))
        # It insists on a request shorter than a delivery.
        request_ms = min(REQUEST_TIMEOUT_MS, self.delivery_timeout_ms // 2)
        return KafkaProducer(
            **{**self._options, "request_timeout_ms": request_ms},
            bootstrap_timeout_ms=left_ms,
            max_block_ms=self.delivery_timeout_ms,
            delivery_timeout_ms=self.delivery_timeout_ms,
            max_request_size=MAX_RECORD_BYTES,
            # Sixteen times the default: twice the rate in bulk, and no waiting for more.
            batch_size=_BATCH_BYTES,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def _end_producer(self, producer: KafkaProducer) -> None:
        # `close` flushes first; where that takes too long it raises, and leaves the sender at its
        # work with what it holds (kafka-python 3.0.12). So the sender goes first: it gives up what
        # it holds, and there is nothing left to flush.
        sender = producer._sender  # noqa: SLF001 - no public way to let go of records
        sender.force_close()
        sender.join(_END_S)
        with suppress(KafkaTimeoutError):
            producer.close(timeout=0)

    # Asking

    def partitions(
        self, topics: Iterable[str], wait_ms: int = REQUEST_TIMEOUT_MS
    ) -> dict[str, int]:
        """Return the number of partitions of each topic; a missing one is left out."""
        wanted = list(dict.fromkeys(topics))
        described = self._ask(lambda: self.admin(wait_ms).describe_topics(wanted), wait_ms)
        return {
            topic["name"]: len(topic["partitions"])
            for topic in described
            if not topic["error_code"] and topic["partitions"]
        }

    def _offsets(self, places: Iterable[Place], *, newest: bool) -> dict[Place, int]:
        # Not by a consumer's end_offsets: over topics it does not read it fails with a KeyError
        # (kafka-python 3.0.12).
        which = OffsetSpec.LATEST if newest else OffsetSpec.EARLIEST
        asked = {TopicPartition(*place): which for place in places}
        found = self._ask(
            lambda: self.admin().list_partition_offsets(asked, IsolationLevel.READ_COMMITTED)
        )
        return {(where.topic, where.partition): place.offset for where, place in found.items()}

    def reader(self, begin: Mapping[Place, int]) -> PythonReader:
        """Return a reader of these partitions, from these offsets on."""
        return PythonReader(self._ask(self._new_consumer), begin, self.address)

    def committed(self, group: str) -> dict[Place, int]:
        """Return the offsets committed by a consumer group."""
        found = self._ask(lambda: self.admin().list_group_offsets(group))
        return {
            (where.topic, where.partition): place.offset
            for where, place in found.get(group, {}).items()
            if place.offset >= 0
        }

    def commit(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Commit offsets for a consumer group that has no members."""
        wanted = {
            TopicPartition(*place): OffsetAndMetadata(offset, "", -1)
            for place, offset in offsets.items()
        }
        results = self._ask(lambda: self.admin().alter_group_offsets(group, wanted))
        for place, outcome in results.items():
            if getattr(outcome, "errno", 0):
                what = f"keeps no bookmark of {group!r} in {place.topic} ({outcome.__name__})"
                raise unavailable(self.address, what)

    def admin(self, wait_ms: int = REQUEST_TIMEOUT_MS) -> KafkaAdminClient:
        """Return the client for administration, connected when it is first used."""
        if self._admin is None:
            self._await_server(time.monotonic() + wait_ms / 1000)
            self._admin = KafkaAdminClient(**self._options, bootstrap_timeout_ms=wait_ms)
        return self._admin

    def _await_server(self, until_s: float) -> None:
        """Wait until a server listens.

        A client of kafka-python 3.0.12 that finds none leaves a thread and sockets behind: a kiosk
        whose cluster is away overnight would have thousands.
        """
        while not any(_listens(server) for server in self.address.servers):
            if time.monotonic() >= until_s:
                problem = "none of its servers listens"
                raise KafkaConnectionError(problem)
            time.sleep(PAUSE_S)

    def close(self) -> None:
        """Close its connections."""
        self._drop_producer()
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def _new_consumer(self) -> KafkaConsumer:
        self._await_server(time.monotonic() + REQUEST_TIMEOUT_MS / 1000)
        return KafkaConsumer(
            **self._options,
            bootstrap_timeout_ms=REQUEST_TIMEOUT_MS,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            max_poll_records=5_000,
            # Also how long it sleeps while it learns where its partitions are: at the default of
            # 100 ms each look at the newest records takes a quarter of a second.
            retry_backoff_ms=20,
            metrics_enabled=False,
        )

    def _failure(self, error: KafkaError) -> Failure:
        return _failure_of(error)


class PythonReader:
    """A consumer of given partitions, in no group."""

    def __init__(
        self,
        consumer: KafkaConsumer,
        begin: Mapping[Place, int],
        address: KafkaAddress,
    ) -> None:
        self._consumer = consumer
        self._address = address
        # Where those are that are not read now. They are taken out of the assignment, since the
        # consumer's own pause can keep what it holds of a partition for ever (kafka-python 3.0.12:
        # resumed when all others are at their end, it gives nothing more).
        self._resting = dict(begin)
        self.resume(begin)

    def poll(self, wait_s: float) -> list[Incoming]:
        """Return what came, in the order of each partition."""
        if not self._consumer.assignment():
            time.sleep(wait_s)
            return []
        try:
            batches = self._consumer.poll(timeout_ms=int(wait_s * 1000))
        except KafkaError as error:
            raise _failure_of(error).explained(self._address, "does not answer") from error
        return [
            Incoming(
                record.topic,
                record.partition,
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                tuple(record.headers),
            )
            for batch in batches.values()
            for record in batch
        ]

    def position(self, place: Place) -> int:
        """Return the offset it reads next."""
        if place in self._resting:
            return self._resting[place]
        try:
            return int(self._consumer.position(TopicPartition(*place)))
        except KafkaError as error:
            raise _failure_of(error).explained(self._address, "does not answer") from error

    def pause(self, places: Iterable[Place]) -> None:
        """Read nothing more of some partitions until they are resumed."""
        stopping = {place: self.position(place) for place in places}
        if stopping:
            self._resting.update(stopping)
            gone = {TopicPartition(*place) for place in stopping}
            self._consumer.assign([p for p in self._consumer.assignment() if p not in gone])

    def resume(self, places: Iterable[Place]) -> None:
        """Go on with them."""
        starting = {place: self._resting.pop(place) for place in places if place in self._resting}
        if starting:
            reading = {*self._consumer.assignment(), *(TopicPartition(*p) for p in starting)}
            self._consumer.assign(list(reading))
            for place, offset in starting.items():
                self._consumer.seek(TopicPartition(*place), offset)

    def close(self) -> None:
        """Leave."""
        with suppress(KafkaError):
            self._consumer.close()


def _failure_of(error: KafkaError) -> Failure:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, UnknownTopicOrPartitionError):
        return Failure("missing", is_passing=False, text=text)
    if isinstance(error, AuthorizationError):
        return Failure("forbidden", is_passing=False, text=text)
    if isinstance(error, MessageSizeTooLargeError):
        return Failure("too large", is_passing=False, text=text)
    return Failure("other", isinstance(error, RetriableError), text)


def _listens(server: str) -> bool:
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S):
            return True
    except OSError:
        return False
