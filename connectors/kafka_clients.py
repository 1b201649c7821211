"""What PHO needs of a Kafka client: one contract over kafka-python and confluent-kafka."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from connectors.kafka_address import KafkaAddress, KafkaSecurity
from schemas.errors import LogUnavailable, UsageError

ClientName = Literal["kafka-python", "confluent"]

DELIVERY_TIMEOUT_MS = 120_000
"""How long an append holds its caller while no broker takes it."""
REQUEST_TIMEOUT_MS = 15_000
"""How long a question to the cluster may stay unanswered."""
MAX_RECORD_BYTES = 4 * 1024 * 1024
"""The largest record, in bytes: the policy of a loop with 50 actions over 100 features has
4 MB (a matrix of float64 for each action)."""
RECONNECT_MAX_MS = 1_000
"""The longest pause between attempts to connect; the default of kafka-python, 30 s, is added to
each broker restart."""

Place = tuple[str, int]
"""A topic and one of its partitions."""


class Outgoing(NamedTuple):
    """One record to be produced."""

    topic: str
    """Its topic."""
    key: bytes
    """Its key; murmur2 of it names the partition, as in the Java client."""
    value: bytes
    """Its bytes."""
    timestamp_ms: int | None = None
    """Its time, where the topic takes the producer's; None: now."""
    partition: int | None = None
    """Its partition; None: by its key."""
    headers: tuple[tuple[str, bytes], ...] = ()
    """Its headers."""


class Incoming(NamedTuple):
    """One record that was read."""

    topic: str
    """Its topic."""
    partition: int
    """Its partition."""
    offset: int
    """Its place there, from 0."""
    timestamp_ms: int
    """Its time, ms since 1970 UTC."""
    key: bytes | None
    """Its key, if it has one."""
    value: bytes | None
    """Its bytes; None: a tombstone."""
    headers: tuple[tuple[str, bytes], ...] = ()
    """Its headers."""


class KafkaReader(Protocol):
    """Reads some partitions, each from a place on; only what is committed."""

    def poll(self, wait_s: float) -> list[Incoming]:
        """Return what came, in the order of each partition, waiting so long for the first, s."""
        ...

    def position(self, place: Place) -> int:
        """Return the offset it reads next; it also passes gaps, where no record is."""
        ...

    def pause(self, places: Iterable[Place]) -> None:
        """Read nothing more of some partitions until they are resumed."""
        ...

    def resume(self, places: Iterable[Place]) -> None:
        """Go on with them."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class KafkaClient(Protocol):
    """One connection to a cluster, for one thread at a time; `produce` for several.

    Every error is ours: `LogUnavailable` (with the address), or `UsageError` for a record that
    cannot be written at all.
    """

    address: KafkaAddress
    """The cluster."""
    delivery_timeout_ms: int
    """How long `produce` holds its caller while no broker takes the records."""

    def produce(self, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        """Write records durably, in order within each partition; return (partition, offset).

        Blocks while no broker takes them, up to the delivery timeout. After an error some may be
        written and some not, but none is written later: the caller keeps them and tries again,
        and readers take the first of an id.
        """
        ...

    def partitions(
        self, topics: Iterable[str], wait_ms: int = REQUEST_TIMEOUT_MS
    ) -> dict[str, int]:
        """Return the number of partitions of each topic; a missing one is left out.

        An answer is waited for so long, ms.
        """
        ...

    def starts(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the first offset that is still there."""
        ...

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the offset behind the last committed record."""
        ...

    def reader(self, begin: Mapping[Place, int]) -> KafkaReader:
        """Return a reader of these partitions, from these offsets on."""
        ...

    def committed(self, group: str) -> dict[Place, int]:
        """Return the offsets committed by a consumer group."""
        ...

    def commit(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Commit offsets for a consumer group that has no members."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


def connect(
    address: KafkaAddress,
    security: KafkaSecurity | None = None,
    client: ClientName = "kafka-python",
    delivery_timeout_ms: int = DELIVERY_TIMEOUT_MS,
) -> KafkaClient:
    """Return a client; it connects when it is first used.

    Raises
    ------
    UsageError
        When the package of that client is not installed.
    """
    security = security or KafkaSecurity()
    try:
        if client == "confluent":
            from connectors.kafka_confluent import ConfluentClient

            return ConfluentClient(address, security, delivery_timeout_ms)
        from connectors.kafka_python import PythonClient

        return PythonClient(address, security, delivery_timeout_ms)
    except ImportError as error:
        problem = f"the Kafka client {client!r} is not installed"
        raise UsageError(problem, "Install it with `pip install 'pho[kafka]'`") from error


def partition_of(key: bytes, count: int) -> int:
    """Return the partition of a key among `count`: murmur2, as every client here does it.

    Parameters
    ----------
    key : bytes
        The key.
    count : int
        Number of partitions, 1 or more.
    """
    mask, factor = 0xFFFFFFFF, 0x5BD1E995
    found = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for begin in range(0, whole, 4):
        word = int.from_bytes(key[begin : begin + 4], "little") * factor & mask
        word = (word ^ word >> 24) * factor & mask
        found = found * factor & mask ^ word
    if rest := key[whole:]:
        found = (found ^ int.from_bytes(rest, "little")) * factor & mask
    found = (found ^ found >> 13) * factor & mask
    return (found ^ found >> 15) % 0x80000000 % count


def unavailable(address: KafkaAddress, what: str, cure: str = "") -> LogUnavailable:
    """Return the error of a cluster that does not do what it is asked."""
    return LogUnavailable(
        f"the Kafka cluster {address} {what}",
        cure or "Check that it runs and that this machine reaches it; nothing read was lost",
    )


def too_large(record: Outgoing) -> UsageError:
    """Return the error of a record that no broker here takes."""
    problem = f"a record of {len(record.value)} bytes is too large for the topic {record.topic}"
    cure = f"Raise its max.message.bytes; `pho topics create` sets {MAX_RECORD_BYTES}"
    return UsageError(problem, cure)


def topics_missing(address: KafkaAddress, what: str) -> LogUnavailable:
    """Return the error of a cluster without our topics."""
    return unavailable(address, what, f"Create them: `pho topics create --log {address}`")


def refused(address: KafkaAddress, what: str) -> LogUnavailable:
    """Return the error of a cluster that knows us and does not let us."""
    return unavailable(address, what, "Ask its owner for the right to do this")
