"""What both Kafka clients do alike: keep a producer, ask until there is an answer, explain errors.

connectors/kafka_python.py and connectors/kafka_confluent.py say the rest in their library's words.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from connectors.kafka_address import KafkaAddress
from connectors.kafka_clients import (
    REQUEST_TIMEOUT_MS,
    Outgoing,
    Place,
    refused,
    too_large,
    topics_missing,
    unavailable,
)

PAUSE_S = 0.1
"""Between two attempts."""

P = TypeVar("P")
T = TypeVar("T")


class Failure(NamedTuple):
    """What a library's own error means."""

    kind: Literal["missing", "forbidden", "too large", "other"]
    """A topic is not there, we may not, a record is too large for its topic, or else."""
    is_passing: bool
    """Whether the same question may be answered a moment later."""
    text: str
    """The library's words."""

    def explained(
        self, address: KafkaAddress, what: str, records: Sequence[Outgoing] = ()
    ) -> Exception:
        """Return our error for it.

        Parameters
        ----------
        address : KafkaAddress
            The cluster.
        what : str
            What it does not do: "takes no records".
        records : sequence of Outgoing
            Those it was to take.
        """
        reason = f"{what} ({self.text})"
        if self.kind == "missing":
            return topics_missing(address, reason)
        if self.kind == "forbidden":
            return refused(address, reason)
        if self.kind == "too large" and records:
            return too_large(max(records, key=lambda record: len(record.value)))
        return unavailable(address, reason)


class BaseClient(ABC, Generic[P]):
    """What a client is whatever its library.

    Parameters
    ----------
    address : KafkaAddress
        The cluster.
    delivery_timeout_ms : int
        How long `produce` holds its caller while no broker takes the records.
    """

    error: ClassVar[type[Exception]]
    """What the library raises."""

    def __init__(self, address: KafkaAddress, delivery_timeout_ms: int) -> None:
        self.address = address
        self.delivery_timeout_ms = delivery_timeout_ms
        self._producer: P | None = None
        self._producer_lock = threading.Lock()

    @abstractmethod
    def _failure(self, error: Any) -> Failure:
        """Say what an error of the library means."""

    @abstractmethod
    def _new_producer(self, until_s: float) -> P:
        """Make a producer, by then at the latest, monotonic seconds."""

    @abstractmethod
    def _end_producer(self, producer: P) -> None:
        """Let go of a producer, and of what it still holds."""

    @abstractmethod
    def _offsets(self, places: Iterable[Place], *, newest: bool) -> dict[Place, int]:
        """Return the first offset of some partitions, or the one behind the last committed."""

    def starts(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the first offset that is still there."""
        return self._offsets(places, newest=False)

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the offset behind the last committed record."""
        return self._offsets(places, newest=True)

    def _ready_producer(self, until_s: float) -> P:
        with self._producer_lock:
            if self._producer is None:
                self._producer = self._new_producer(until_s)
            return self._producer

    def _drop_producer(self) -> None:
        """Let go of the producer: what it holds must not arrive behind the caller's next try."""
        with self._producer_lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            self._end_producer(producer)

    def _ask(self, question: Callable[[], T], wait_ms: int = REQUEST_TIMEOUT_MS) -> T:
        """Ask until there is an answer: a cluster that restarts first says ``try again``."""
        until_s = time.monotonic() + wait_ms / 1000
        while True:
            try:
                return question()
            except self.error as error:
                failure = self._failure(error)
                if not failure.is_passing or time.monotonic() >= until_s:
                    raise failure.explained(self.address, "does not answer") from error
            time.sleep(PAUSE_S)
