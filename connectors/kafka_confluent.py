"""The Kafka client over librdkafka: confluent-kafka, for high rates (archive, bridge, tables)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

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

_AT_ONCE = 5_000
_QUEUE_FULL_S = 0.05
# What librdkafka has to say goes where the program's other lines go, and nowhere by itself.
_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())

# librdkafka's own errors have names that start with an underscore.
_MISSING = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
)
_FORBIDDEN = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_PASSING = (
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._WAIT_COORD,  # noqa: SLF001
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
)


class ConfluentClient(BaseClient[Producer]):
    """confluent-kafka behind our contract.

    Parameters
    ----------
    address : KafkaAddress
        The cluster.
    security : KafkaSecurity
        How to connect.
    delivery_timeout_ms : int
        How long `produce` holds its caller while no broker takes the records.
    """

    error = KafkaException

    def __init__(
        self, address: KafkaAddress, security: KafkaSecurity, delivery_timeout_ms: int
    ) -> None:
        super().__init__(address, delivery_timeout_ms)
        self._options: dict[str, Any] = {
            "bootstrap.servers": address.bootstrap,
            "reconnect.backoff.max.ms": RECONNECT_MAX_MS,
            "logger": _LOGGER,
            **security.for_confluent(),
        }
        self._admin: AdminClient | None = None

    # Writing

    def produce(self, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        """Write records durably, in order within each partition; return (partition, offset)."""
        until_s = time.monotonic() + self.delivery_timeout_ms / 1000
        producer = self._ready_producer(until_s)
        found: list[tuple[int, int] | None] = [None] * len(records)
        errors: list[KafkaError] = []
        try:
            for number, record in enumerate(records):
                if errors:
                    break
                _send(producer, record, _noting(number, found, errors), until_s)
            while not errors and (left := producer.flush(PAUSE_S)):
                if time.monotonic() > until_s + 1.0:
                    raise unavailable(self.address, f"did not confirm {left} records")
        except KafkaException as error:
            errors.append(error.args[0])
        except BufferError as error:
            self._drop_producer()
            raise unavailable(self.address, "takes no records, and many wait") from error
        except BaseException:
            self._drop_producer()
            raise
        if errors:
            self._drop_producer()
            raise _failure_of(errors[0]).explained(self.address, "takes no records", records)
        return [place for place in found if place is not None]

    def _new_producer(self, _until_s: float) -> Producer:
        return Producer(
            {
                **self._options,
                # The Java client's; librdkafka's own would put a key elsewhere.
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 0,
                "delivery.timeout.ms": self.delivery_timeout_ms,
                "message.max.bytes": MAX_RECORD_BYTES,
            }
        )

    def _end_producer(self, producer: Producer) -> None:
        producer.purge()
        producer.flush(1.0)

    # Asking

    def partitions(
        self, topics: Iterable[str], wait_ms: int = REQUEST_TIMEOUT_MS
    ) -> dict[str, int]:
        """Return the number of partitions of each topic; a missing one is left out."""
        wanted = set(topics)
        # All are asked for: asking for one by name may create it.
        found = self._ask(lambda: self.admin().list_topics(timeout=wait_ms / 1000), wait_ms)
        return {
            name: len(topic.partitions)
            for name, topic in found.topics.items()
            if name in wanted and topic.error is None and topic.partitions
        }

    def _offsets(self, places: Iterable[Place], *, newest: bool) -> dict[Place, int]:
        asked = list(places)
        which = OffsetSpec.latest() if newest else OffsetSpec.earliest()

        def question() -> dict[Place, int]:
            answers = self.admin().list_offsets(
                {TopicPartition(*place): which for place in asked},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=REQUEST_TIMEOUT_MS / 1000,
            )
            return {
                (where.topic, where.partition): answer.result().offset
                for where, answer in answers.items()
            }

        return self._ask(question) if asked else {}

    def reader(self, begin: Mapping[Place, int]) -> ConfluentReader:
        """Return a reader of these partitions, from these offsets on."""
        consumer = Consumer(
            {
                **self._options,
                # Asked for, though it is a member of no group.
                "group.id": "pho.reader",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                # Says where a partition ends, so that gaps there are passed.
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 100,
            }
        )
        return ConfluentReader(consumer, begin, self.address)

    # By a consumer of the group: the admin client's own call ends the process (a segmentation
    # fault in librdkafka) where the group's coordinator is not known yet; seen three times.

    def committed(self, group: str) -> dict[Place, int]:
        """Return the offsets committed by a consumer group."""
        with self._member(group) as consumer:
            wait_s = REQUEST_TIMEOUT_MS / 1000
            topics = self._ask(lambda: consumer.list_topics(timeout=wait_s)).topics
            prefix = self.address.topic("")
            asked = [
                TopicPartition(name, partition)
                for name, topic in topics.items()
                if name.startswith(prefix)
                for partition in topic.partitions
            ]
            found = self._ask(lambda: consumer.committed(asked, timeout=wait_s)) if asked else []
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def commit(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Commit offsets for a consumer group that has no members."""
        places = [TopicPartition(*place, offset) for place, offset in offsets.items()]
        with self._member(group) as consumer:
            done = self._ask(lambda: consumer.commit(offsets=places, asynchronous=False))
        for place in done or ():
            if place.error is not None:
                what = f"keeps no bookmark of {group!r}"
                raise _failure_of(place.error).explained(self.address, what)

    @contextmanager
    def _member(self, group: str) -> Iterator[Consumer]:
        options = {**self._options, "group.id": group, "enable.auto.commit": False}
        consumer = Consumer(options)
        try:
            yield consumer
        finally:
            consumer.close()

    def admin(self) -> AdminClient:
        """Return the client for administration, made when it is first used."""
        if self._admin is None:
            self._admin = AdminClient(self._options)
        return self._admin

    def close(self) -> None:
        """Close its connections."""
        self._drop_producer()
        self._admin = None

    def _failure(self, error: KafkaException) -> Failure:
        return _failure_of(error.args[0])


class ConfluentReader:
    """A consumer of given partitions, in no group."""

    def __init__(
        self,
        consumer: Consumer,
        begin: Mapping[Place, int],
        address: KafkaAddress,
    ) -> None:
        self._consumer = consumer
        self._address = address
        self._positions = dict(begin)
        consumer.assign([TopicPartition(*place, offset) for place, offset in begin.items()])

    def poll(self, wait_s: float) -> list[Incoming]:
        """Return what came, in the order of each partition."""
        until_s = time.monotonic() + wait_s
        while True:
            # `consume` waits until it has as many as asked for; so one is waited for, and the
            # others are taken as they are there.
            first = self._consumer.poll(max(0.0, until_s - time.monotonic()))
            if first is None:
                return []
            messages = [first, *self._consumer.consume(_AT_ONCE, 0)]
            records = [record for record in map(self._taken, messages) if record is not None]
            if records or time.monotonic() >= until_s or wait_s <= 0:
                return records

    def _taken(self, message: Message) -> Incoming | None:
        error = message.error()
        place = str(message.topic()), int(message.partition() or 0)
        offset = int(message.offset() or 0)
        if error is None:
            self._positions[place] = offset + 1
            headers: Any = message.headers() or ()
            key: Any = message.key()
            value: Any = message.value()
            return Incoming(*place, offset, message.timestamp()[1], key, value, tuple(headers))
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._positions[place] = max(offset, self._positions[place])
        elif not (failure := _failure_of(error)).is_passing:
            raise failure.explained(self._address, "does not answer")
        return None

    def position(self, place: Place) -> int:
        """Return the offset it reads next."""
        return self._positions[place]

    def pause(self, places: Iterable[Place]) -> None:
        """Read nothing more of some partitions until they are resumed."""
        self._consumer.pause([TopicPartition(*place) for place in places])

    def resume(self, places: Iterable[Place]) -> None:
        """Go on with them."""
        self._consumer.resume([TopicPartition(*place) for place in places])

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def _failure_of(error: KafkaError) -> Failure:
    text = f"{error.name()}: {error.str()}"
    code = error.code()
    is_passing = error.retriable() or code in _PASSING
    if code in _MISSING:
        return Failure("missing", is_passing, text)
    if code in _FORBIDDEN:
        return Failure("forbidden", is_passing, text)
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return Failure("too large", is_passing, text)
    return Failure("other", is_passing, text)


def _send(
    producer: Producer, record: Outgoing, delivered: Callable[[Any, Any], None], until_s: float
) -> None:
    options: dict[str, Any] = {"on_delivery": delivered, "headers": list(record.headers)}
    if record.partition is not None:
        options["partition"] = record.partition
    if record.timestamp_ms is not None:
        options["timestamp"] = record.timestamp_ms
    while True:
        try:
            producer.produce(record.topic, record.value, record.key, **options)
        except BufferError:
            if time.monotonic() >= until_s:
                raise
            producer.poll(_QUEUE_FULL_S)
        else:
            return


def _noting(
    number: int, found: list[tuple[int, int] | None], errors: list[KafkaError]
) -> Callable[[KafkaError | None, Message], None]:
    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            errors.append(error)
        else:
            found[number] = int(message.partition() or 0), int(message.offset() or 0)

    return delivered
